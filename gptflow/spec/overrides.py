"""`--set path=value`: puts values in the place of the file's, before anything is checked.

A path is keys with dots between them; an item of a list is named by its index, a step also by its
name: `steps.label.model.temperature`. The value is YAML. What is set keeps its place, the text of
the --set itself, so that problems in it are shown like those in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gptflow.errors import UsageError
from gptflow.spec.node import Entry, ListNode, MapNode, Node, ScalarNode, Sheet, Span
from gptflow.spec.problems import Problem, did_you_mean
from gptflow.spec.yaml12 import read_yaml

SHEET_NAME = "--set"


def override_texts(values: Mapping[str, Any]) -> list[str]:
    """Values of Python by path, in the form that the command line has."""
    try:
        return [
            f"{path}={json.dumps(value, ensure_ascii=False, allow_nan=False)}"
            for path, value in values.items()
        ]
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"a value to set is not plain data: {error}",
            hint="give text, numbers, booleans, None, lists and dicts",
        ) from None


def apply_overrides(tree: MapNode, texts: Iterable[str]) -> list[Problem]:
    """Changes the tree as the texts say, each `path=value`; the last of several wins."""
    problems: list[Problem] = []
    for text in texts:
        try:
            problems += _apply(tree, Sheet(SHEET_NAME, text))
        except _PathError as error:
            problems.append(error.problem)
    return problems


@dataclass(frozen=True, slots=True)
class _Part:
    """One key of a path, and where it stands."""

    name: str
    span: Span


class _PathError(Exception):
    """A path that leads nowhere."""

    def __init__(self, message: str, span: Span, hint: str) -> None:
        super().__init__(message)
        self.problem = Problem(message, span.place(), hint)


def _apply(tree: MapNode, sheet: Sheet) -> list[Problem]:
    *parents, last = _parts(sheet)
    start = last.span.end + 1
    value, problems = read_yaml(sheet, start=start)
    if sheet.text[start:] == "-":  # standard input; in YAML a lone dash begins a list
        value, problems = ScalarNode(Span(sheet, start, start + 1), "-", "-"), []
    if value is None and problems:
        return problems
    if value is None:
        end = len(sheet.text)
        value = ScalarNode(Span(sheet, end, end), "", None)
    node: Node = tree
    for part in parents:
        node = _step_into(node, part)
    _put(node, last, value)
    return problems


def _parts(sheet: Sheet) -> list[_Part]:
    path, equals, _ = sheet.text.partition("=")
    if not equals:
        whole = Span(sheet, 0, len(sheet.text))
        raise _PathError("this sets nothing", whole, "write --set path=value")
    parts, start = [], 0
    for name in path.split("."):
        span = Span(sheet, start, start + len(name))
        if not name:
            raise _PathError("a part of the path is empty", span, "write --set path.to.key=value")
        parts.append(_Part(name, span))
        start += len(name) + 1
    return parts


def _step_into(node: Node, part: _Part) -> Node:
    """The node that the part names; a mapping that is not there yet is made."""
    if isinstance(node, MapNode):
        entry = node.entries.get(part.name)
        if entry is None or (isinstance(entry.node, ScalarNode) and entry.node.value is None):
            entry = node.entries[part.name] = Entry(part.span, MapNode(part.span))
        return entry.node
    if isinstance(node, ListNode):
        return node.items[_index(node, part)]
    raise _no_way_into(part)


def _put(node: Node, part: _Part, value: Node) -> None:
    if isinstance(node, MapNode):
        known = node.entries.get(part.name)
        node.entries[part.name] = Entry(known.key if known else part.span, value)
    elif isinstance(node, ListNode):
        node.items[_index(node, part)] = value
    else:
        raise _no_way_into(part)


def _no_way_into(part: _Part) -> _PathError:
    return _PathError(
        f"nothing can be set at '{part.name}': the value above it is neither mapping nor list",
        part.span,
        "set the whole value above it instead, as in --set 'key={a: 1, b: 2}'",
    )


def _index(node: ListNode, part: _Part) -> int:
    """The item that the part means: by index, or by the item's `name`."""
    names = [_name_of(item) for item in node.items]
    if part.name in names:
        return names.index(part.name)
    if part.name.isdecimal() and int(part.name) < len(names):
        return int(part.name)
    near = did_you_mean(part.name, [name for name in names if name])
    known = ", ".join(name or str(index) for index, name in enumerate(names)) or "no items"
    raise _PathError(
        f"no item '{part.name}' in this list",
        part.span,
        f"did you mean '{near}'?" if near else f"it has {known}",
    )


def _name_of(item: Node) -> str | None:
    entry = item.entries.get("name") if isinstance(item, MapNode) else None
    return entry.node.text if entry and isinstance(entry.node, ScalarNode) else None
