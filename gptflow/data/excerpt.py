"""How broken data is shown: file, line, what is wrong, and a short piece of it."""

from __future__ import annotations

import json

from gptflow.errors import DataError

_JSON_HINTS = {
    "Unterminated string starting at": "the file may be cut off here: copy it again",
    "Extra data": "one object a line, with LF at its end",
    "Invalid control character at": "in a string it is written as an escape: \\n, \\t, \\u0000",
    "Expecting property name enclosed in double quotes": 'JSON names stand in double quotes: "a"',
}
"""What may be wrong, by the words of Python's decoder."""

WIDTH = 72
"""Characters of a line that are shown."""


def data_error(
    place: tuple[str, int],
    what: str,
    *,
    text: str | bytes | None = None,
    at: int | None = None,
    hint: str | None = None,
) -> DataError:
    """The error for broken data at `place`, which is a file and a line.

    `text` is the data that begins on that line; it may have more lines. `at` is the offset in it
    where the trouble is: then the line of that offset is named and shown, with a caret.

    ```
    reviews.jsonl:17: not valid JSON: expecting ',' delimiter
        {"id": 3 "text": "good"}
                 ^
    Hint: ...
    ```
    """
    file, line = place
    shown = ""
    if text is not None:
        if isinstance(text, bytes):
            text, at = _as_text(text, at)
        line += text.count("\n", 0, at or 0)
        shown = _excerpt(text, at)
    where = f"{file}:{line}" if line else file  # a spec built in Python has no lines
    return DataError(f"{where}: {what}{shown}", hint=hint)


def not_utf8(error: UnicodeDecodeError, place: tuple[str, int]) -> DataError:
    """The error for bytes, beginning at `place`, that are not UTF-8."""
    return data_error(
        place,
        f"not UTF-8: byte 0x{error.object[error.start]:02x}",
        text=error.object,
        at=error.start,
        hint="convert the file: iconv -f ENCODING -t UTF-8 FILE",
    )


def not_json(error: json.JSONDecodeError, place: tuple[str, int], text: str, at: int) -> DataError:
    """The error for text, beginning at `place`, that is not JSON from offset `at` on."""
    what = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
    hint = _JSON_HINTS.get(error.msg)
    return data_error(place, f"not valid JSON: {what}", text=text, at=at, hint=hint)


def _as_text(data: bytes, at: int | None) -> tuple[str, int | None]:
    """Undecodable bytes become escapes; the offset moves along with what they add."""
    text = data.decode(errors="backslashreplace")
    return text, at and len(data[:at].decode(errors="backslashreplace"))


def _excerpt(text: str, at: int | None) -> str:
    offset = at or 0
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line = text[start : len(text) if end < 0 else end].rstrip("\r")
    offset -= start
    cut = max(0, offset - WIDTH // 2) if len(line) > WIDTH else 0
    before = ("..." if cut else "") + printable(line[cut:offset])
    after = printable(line[offset : cut + WIDTH]) + ("..." if len(line) > cut + WIDTH else "")
    caret = f"\n    {' ' * len(before)}^" if at is not None else ""
    return f"\n    {before}{after}{caret}" if before or after else ""


def short(name: str) -> str:
    """A name or a number of the data as a message has it: printable, and cut where it is long."""
    return printable(name) if len(name) <= WIDTH else printable(name[:WIDTH]) + "..."


def printable(text: str) -> str:
    """The text with everything escaped that could steer a terminal or turn its direction."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
