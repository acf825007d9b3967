"""JSON as people write it: with comments and trailing commas, and with the place of each value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
"""The way to a value: ("key_list", 1, "api_key")."""

_STRING = r'("(?:[^"\\\n]|\\.)*")'
_COMMENT = re.compile(_STRING + r"|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])", re.DOTALL)
_NOT_NEWLINE = re.compile(r"[^\n]")
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


class DuplicateNameError(ValueError):
    """An object has a name twice. `args[0]` is the name."""


class _Member(NamedTuple):
    part: str | int
    name_at: int
    value_at: int


def plain_json(text: str) -> str:
    """`text` without `//` and `/* */` comments and trailing commas, outside of strings.

    What goes is replaced by spaces, so that every offset, line and column stays what it was.
    """
    return _TRAILING_COMMA.sub(_blank, _COMMENT.sub(_blank, text))


def _blank(match: re.Match[str]) -> str:
    return match[1] or _NOT_NEWLINE.sub(" ", match[0])


def decode(plain: str) -> Any:
    """The value of plain JSON text.

    Raises:
        json.JSONDecodeError: it is not JSON.
        ValueError: a number has more digits than Python turns into one.
        RecursionError: it is nested too deeply.
        DuplicateNameError: an object has a name twice, of which JSON would keep the last silently.
    """
    return json.loads(plain, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateNameError(next(name for name in names if names.count(name) > 1))
    return found


def duplicate_at(plain: str) -> int:
    """The offset of a name that stands twice in one object of valid plain JSON; 0 if none does."""
    open_values = [_skip(plain, 0)]
    while open_values:
        names = set()
        for member in _members(plain, open_values.pop()):
            if member.part in names:
                return member.name_at
            names.add(member.part)
            open_values.append(member.value_at)
    return 0


def locate(plain: str, path: Path, *, name: bool = False) -> int:
    """The offset of the value at `path` of valid plain JSON, or of the nearest parent there is.

    `name`: of the member's name instead of its value.
    """
    offset = _skip(plain, 0)
    for depth, part in enumerate(path, start=1):
        member = next((one for one in _members(plain, offset) if one.part == part), None)
        if member is None:
            break
        offset = member.name_at if name and depth == len(path) else member.value_at
    return offset


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """The place of an offset as editors show it, counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _members(plain: str, offset: int) -> Iterator[_Member]:
    opening = plain[offset]
    if opening not in "{[":
        return
    offset = _skip(plain, offset + 1)
    index = 0
    while plain[offset] not in "}]":
        part: str | int = index
        name_at = offset
        if opening == "{":
            part, offset = _DECODER.raw_decode(plain, offset)
            offset = _skip(plain, _skip(plain, offset) + 1)
        yield _Member(part, name_at, offset)
        offset = _skip(plain, _DECODER.raw_decode(plain, offset)[1])
        if plain[offset] == ",":
            offset = _skip(plain, offset + 1)
        index += 1


def _skip(plain: str, offset: int) -> int:
    match = _SPACE.match(plain, offset)
    return match.end() if match else offset
