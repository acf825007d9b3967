"""A YAML text as a tree: what each value is, and where in which text it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gptflow.spec.problems import Place, place_in_text

ScalarValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A text that nodes are read from: the spec's file, or one --set."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a sheet, in characters."""

    sheet: Sheet
    start: int
    end: int

    @property
    def source(self) -> str:
        """The characters themselves."""
        return self.sheet.text[self.start : self.end]

    def place(self) -> Place:
        """Where it stands; only its first line if it has several."""
        return place_in_text(self.sheet.file, self.sheet.text, self.start, self.end - self.start)


@dataclass(slots=True)
class ScalarNode:
    """Text, a number, true, false or nothing."""

    span: Span
    """From the first quote or the | to the end, without anchor and tag."""
    text: str
    value: ScalarValue
    """The text, or what it means if it is plain."""
    style: str = ""
    """As YAML writes it: ', ", |, > or nothing for a plain scalar."""


@dataclass(slots=True)
class ListNode:
    """A list."""

    span: Span
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """A key of a mapping, and its value."""

    key: Span
    node: Node


@dataclass(slots=True)
class MapNode:
    """A mapping. Keys are text always, as they are written."""

    span: Span
    entries: dict[str, Entry] = field(default_factory=dict)


Node = ScalarNode | ListNode | MapNode


def data_of(node: Node) -> Any:
    """The node as dicts, lists and scalars, nothing of which is shared."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        return [data_of(item) for item in node.items]
    return {key: data_of(entry.node) for key, entry in node.entries.items()}


def child_of(node: Node, part: str | int) -> Node | None:
    """The node one step further on a key path, or None."""
    if isinstance(node, MapNode):
        entry = node.entries.get(part) if isinstance(part, str) else None
        return entry.node if entry else None
    if isinstance(node, ListNode) and isinstance(part, int) and 0 <= part < len(node.items):
        return node.items[part]
    return None
