"""The path language of the extractor `json`: label, a.b, items[0].name, items[-1], tags[*], $.

A path is names and brackets: `.name`, `[0]` (from 0; negative from the end), `["any key"]` in
double or single quotes, `[*]` (each element: the result is one list, however many `[*]` there
are). `$` is the whole value and may lead any path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gptflow.pipeline.extract.invalid import BadExtractor, Invalid, listed


@dataclass(frozen=True, slots=True)
class Each:
    """The part `[*]`: every element of a list."""


Part = str | int | Each

_PART = re.compile(
    r"""\.?(?P<name>[^\s.\[\]"'$*]+)
      | \[\s*(?P<index>-?\d{1,9})\s*\]
      | \[\s*(?P<each>\*)\s*\]
      | \[\s*"(?P<double>(?:[^"\\]|\\.)*)"\s*\]
      | \[\s*'(?P<single>(?:[^'\\]|\\.)*)'\s*\]""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")


def parse_path(path: str) -> tuple[Part, ...]:
    """The parts of a path; none of them for `$`. Raises BadExtractor with the place of a slip."""
    text = path.strip()
    offset = path.find(text)
    position = 1 if text.startswith("$") else 0
    parts: list[Part] = []
    if not text:
        raise _bad(path, 0)
    while position < len(text):
        found = _PART.match(text, position)
        # A name needs its dot, except at the very start, which in turn has none.
        if found is None or (found["name"] and (position == 0) == (text[position] == ".")):
            raise _bad(path, offset + position)
        parts.append(_part(found))
        position = found.end()
    return tuple(parts)


def _part(found: re.Match[str]) -> Part:
    if found["index"]:
        return int(found["index"])
    if found["each"]:
        return Each()
    quoted = found["double"] if found["double"] is not None else found["single"]
    return found["name"] if quoted is None else _ESCAPE.sub(r"\1", quoted)


def _bad(path: str, offset: int) -> BadExtractor:
    rest = path[offset : offset + 12]
    return BadExtractor(
        f"the JSON path cannot be read from {rest!r} on" if rest else "the JSON path is incomplete",
        "json",
        offset=min(offset, max(len(path) - 1, 0)),
        hint='a path looks like label, a.b, items[0].name, items[-1], tags[*], ["odd key"] or $',
    )


def value_at(value: Any, parts: tuple[Part, ...]) -> Any:
    """The value at the path. Raises Invalid that names the part which is not there."""
    for depth, part in enumerate(parts):
        if not isinstance(value, dict if isinstance(part, str) else list):
            raise Invalid(_missing(value, parts, depth))
        if isinstance(part, Each):
            rest = parts[depth + 1 :]
            found = [value_at(element, rest) for element in value]
            return [one for inner in found for one in inner] if Each() in rest else found
        try:
            value = value[part]  # type: ignore[index]  # text goes with a dict, a number with a list
        except LookupError:
            raise Invalid(_missing(value, parts, depth)) from None
    return value


def _missing(value: Any, parts: tuple[Part, ...], depth: int) -> str:
    part, where = parts[depth], written(parts[:depth])
    if isinstance(part, str) and isinstance(value, dict):
        keys = f"its keys are {listed(list(value))}" if value else "it is empty"
        return f'there is no key "{part}" in {where}: {keys}'
    if isinstance(part, int) and isinstance(value, list):
        return f"there is no element {part} in {where}, which has {len(value)}"
    expected = f'an object with the key "{part}"' if isinstance(part, str) else "a list"
    return f"{where} is {_KINDS.get(type(value), 'null')}, expected {expected}"


_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}


def written(parts: tuple[Part, ...]) -> str:
    """A path as a message has it."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += f".{part}" if text else part
        else:
            text += "[*]" if isinstance(part, Each) else f"[{part}]"
    return text or "the JSON value"


def planted(tree: Any, parts: tuple[Part, ...], value: Any) -> Any:
    """The tree with the value at the path, where nothing is there yet: for examples of replies."""
    if not parts:
        return value if tree is None else tree
    part, rest = parts[0], parts[1:]
    if isinstance(part, str):
        entries = dict(tree) if isinstance(tree, dict) else {}
        entries[part] = planted(entries.get(part), rest, value)
        return entries
    index = 0 if isinstance(part, Each) else part if part >= 0 else -part - 1
    elements = list(tree) if isinstance(tree, list) else []
    elements += [None] * (min(index, 99) + 1 - len(elements))
    return [planted(element, rest, value) for element in elements]
