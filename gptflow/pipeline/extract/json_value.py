"""The extractor `json`: a value out of the first JSON value in the reply."""

from __future__ import annotations

from typing import Any

from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.json_path import Part, value_at, written
from gptflow.pipeline.extract.reply_text import ReplyText


class FromJson:
    """Gives the value at a path.

    A path that is not there is invalid; a null that is there only with `type` or `one_of`.
    """

    def __init__(self, parts: tuple[Part, ...], conversion: Conversion) -> None:
        self.conversion = conversion
        self.fields = (conversion.name,)
        self.parts = parts
        self._wanted = _container(parts, conversion)

    def extract(self, reply: ReplyText) -> dict[str, Any]:
        """The field's value."""
        value = reply.json_value(self._wanted)
        return {self.fields[0]: self.conversion(value_at(value, self.parts))}

    def wants(self) -> str:
        """What a valid reply is."""
        typed = self.conversion.wants()
        if not self.parts:
            return f"a JSON value, {typed}" if typed else "a JSON value"
        return f"JSON with {written(self.parts)}" + (f" ({typed})" if typed else "")


def _container(parts: tuple[Part, ...], conversion: Conversion) -> type | None:
    """The kind of JSON value that the path starts from, as far as it is known."""
    if parts:
        return dict if isinstance(parts[0], str) else list
    return {"dict": dict, "list": list}.get(conversion.type or "")
