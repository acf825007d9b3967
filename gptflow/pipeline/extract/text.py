"""The extractor `text`: the whole reply."""

from __future__ import annotations

from typing import Any

from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.reply_text import ReplyText


class FromText:
    """Gives the whole reply, without the white space around it.

    Any reply is valid, but for `type` and `one_of`.
    """

    def __init__(self, conversion: Conversion) -> None:
        self.conversion = conversion
        self.fields = (conversion.name,)

    def extract(self, reply: ReplyText) -> dict[str, Any]:
        """The field's value."""
        return {self.fields[0]: self.conversion(reply.text.strip())}

    def wants(self) -> str:
        """What a valid reply is."""
        return self.conversion.wants() or "any text"
