"""`${NAME}` in the strings of a spec: read from the environment, once.

`$${NAME}` is the text `${NAME}`. Keys are left as they are, and so is what came in: a variable
whose value has a `${...}` of its own is not read again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gptflow.spec.guard import may_name
from gptflow.spec.origin import KeyPath

_REFERENCE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Missing:
    """A variable that a string names and does not get."""

    name: str
    path: KeyPath
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Expanded:
    """The data of a spec with its variables read."""

    data: Any
    missing: list[Missing] = field(default_factory=list)
    refused: list[Missing] = field(default_factory=list)
    """Variables that look like a key, and stand where they would be sent or shown."""
    whole: set[KeyPath] = field(default_factory=set)
    """Strings that were one variable and nothing else: they may stand for a number."""


def expand(data: Any, environ: Mapping[str, str]) -> Expanded:
    """The data with all variables read. A missing or refused one stays as it was written."""
    expanded = Expanded(data)
    return replace(expanded, data=_expand(data, (), environ, expanded))


def _expand(data: Any, path: KeyPath, environ: Mapping[str, str], found: Expanded) -> Any:
    if isinstance(data, dict):
        return {key: _expand(value, (*path, key), environ, found) for key, value in data.items()}
    if isinstance(data, list):
        return [_expand(value, (*path, index), environ, found) for index, value in enumerate(data)]
    if not isinstance(data, str) or "${" not in data:
        return data

    def value_of(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return f"${{{name}}}"
        if not may_name(name, path):
            unread = found.refused
        elif name in environ:
            return environ[name]
        else:
            unread = found.missing
        unread.append(Missing(name, path, match.start(), len(match[0])))
        return match[0]

    whole = _REFERENCE.fullmatch(data)
    if whole and not whole[1] and whole[2] in environ and may_name(whole[2], path):
        found.whole.add(path)
    return _REFERENCE.sub(value_of, data)
