"""Where a spec came from: its file, its text, and the place of every node in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptflow.spec.node import MapNode, Node, ScalarNode, Span, child_of
from gptflow.spec.problems import Place
from gptflow.spec.stretch import stretch_of

CHANGE_MARK = "# --set "
"""What begins the line of a --set in the text of a spec as it was run."""

KeyPath = tuple[str | int, ...]
"""The way to a node of the spec: ("steps", 0, "extract", "label")."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The file of a spec. Finds the place of a node, or of a stretch of text inside one."""

    file: str
    """The path as the user gave it."""
    folder: Path
    """The folder that relative paths start from, resolved."""
    text: str = ""
    """The file as it was read, without what --set changed."""
    tree: Node | None = None
    overrides: tuple[str, ...] = ()
    """What --set changed, each as "path=value"."""

    @classmethod
    def nowhere(cls) -> Origin:
        """The origin of a spec that was built in Python: paths start at the working directory."""
        return cls(file="spec", folder=Path.cwd())

    @property
    def as_run(self) -> str:
        """The file as it was read, with what --set changed as comments at its end."""
        end = "" if self.text.endswith("\n") or not self.overrides else "\n"
        return (
            self.text + end + "".join(f"{CHANGE_MARK}{override}\n" for override in self.overrides)
        )

    def place(
        self,
        path: KeyPath,
        *,
        key: bool = False,
        offset: int | None = None,
        length: int | None = None,
    ) -> Place:
        """Where the node at `path` stands; the key of the nearest parent if it does not.

        `key`: the key of the mapping entry instead of its value. `offset`, `length`: a stretch of
        a scalar's text (characters of the value as the spec has it), such as one name in a
        template. It is exact for what is no white space; where lines were folded, white space is
        found to the line. A spec from no file has a place without a line, named by the path.
        """
        if self.tree is None:
            return Place(".".join(map(str, path)) or self.file, 0, 0)
        node, key_span = self.tree, None
        for depth, part in enumerate(path):
            child = child_of(node, part)
            if child is None:
                return (key_span or _first_key(node)).place()
            if isinstance(node, MapNode):
                key_span = node.entries[str(part)].key
            elif key or depth < len(path) - 1:
                key_span = None  # an item of a list has no key of its own
            node = child
        if offset is not None and isinstance(node, ScalarNode):
            return stretch_of(node, offset, 1 if length is None else length).place()
        if key:
            return (key_span or _first_key(node)).place()
        return node.span.place()


def value_at(tree: Any, path: KeyPath) -> Any:
    """The value at `path` of nested dicts and lists."""
    for part in path:
        tree = tree[part]
    return tree


def _first_key(node: Node) -> Span:
    """The first key of a mapping in place of all of it: a mapping may be pages long."""
    if isinstance(node, MapNode) and node.entries:
        return next(iter(node.entries.values())).key
    return node.span
