"""The extractor `python`: what a person's own function makes of the reply."""

from __future__ import annotations

from typing import Any

from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.invalid import Invalid, TakesLong, shown
from gptflow.pipeline.extract.reply_text import ReplyText
from gptflow.pipeline.hook import Hook, text_of
from gptflow.pipeline.hook_value import plain

MOST_SHOWN = 300


class FromPython:
    """Gives what the function gives. A ValueError of it makes the reply invalid.

    It may take any time, so it is called only where nobody else has to wait.
    """

    def __init__(self, hook: Hook, conversion: Conversion) -> None:
        self.hook = hook
        self.conversion = conversion
        self.fields = (conversion.name,)

    def extract(self, reply: ReplyText) -> dict[str, Any]:
        """The field's value.

        Raises:
            HookFault: the function failed, or gave what JSON does not have.
        """
        if not reply.patient:
            raise TakesLong
        text = reply.searchable
        try:
            value = self.hook.call(text, reply.row() if self.hook.takes_second else None)
        except ValueError as complaint:
            told = shown(text_of(complaint), MOST_SHOWN)[1:-1] or type(complaint).__name__
            raise Invalid(f"{self.fields[0]}: {told}") from None
        return {self.fields[0]: self.conversion(self.hook.taken(plain, value))}

    def wants(self) -> str:
        """What a valid reply is."""
        typed = self.conversion.wants()
        return f"text from which {self.fields[0]} can be taken" + (f", {typed}" if typed else "")
