"""The two ways in which extraction says no: to a reply, and to an extractor as it is written."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What a model says must not steer the terminal that shows it."""


class Invalid(Exception):
    """A reply that an extractor does not accept.

    `str()` is one line for two readers: the person who looks at a failed row, and the model that
    is asked again.
    """


class TakesLong(Exception):
    """A search that is not over in a moment, where there is no time for more."""


class BadExtractor(Exception):
    """An extractor that cannot be built as the spec has it."""

    def __init__(
        self,
        message: str,
        key: str,
        *,
        path: tuple[str | int, ...] = (),
        offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        """The key of the extractor's mapping that is wrong: regex, group, json, schema, ..."""
        self.path = path
        """The way from that key's value to what is wrong in it, where it is a mapping or list."""
        self.offset = offset
        """The character of that key's value where it goes wrong, where it is text."""
        self.hint = hint


def listed(names: list[str], most: int = 12) -> str:
    """Names as a sentence has them: `a, b, c`; of many, the first ones and how many more."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def shown(value: object, most: int = 80) -> str:
    """A value of a reply on one line, cut where it is long."""
    text = " ".join(_CONTROL.sub(" ", value).split()) if isinstance(value, str) else str(value)
    text = text if len(text) <= most else text[: most - 3] + "..."
    return f'"{text}"' if isinstance(value, str) else text
