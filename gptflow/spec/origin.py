"""Where a spec came from: its file, its text, and the place of every node in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gptflow.spec.problems import Place

KeyPath = tuple[str | int, ...]
"""The way to a node of the spec: ("steps", 0, "extract", "label")."""


class Origin:
    """The file of a spec. Finds the place of a node, or of a stretch of text inside one."""

    file: str
    """The path as the user gave it."""
    folder: Path
    """The folder that relative paths start from, resolved."""

    @classmethod
    def nowhere(cls) -> Origin:
        """The origin of a spec that was built in Python: paths start at the working directory."""
        raise NotImplementedError  # the loader's part

    def place(
        self, path: KeyPath, *, key: bool = False, offset: int | None = None, length: int | None = None
    ) -> Place:
        """Where the node at `path` stands; the nearest existing parent if it does not.

        `key`: the key of the mapping entry instead of its value. `offset`, `length`: a stretch of
        a scalar's text (characters of the value as the spec has it), such as one name in a template.
        """
        raise NotImplementedError  # the loader's part


def value_at(tree: Any, path: KeyPath) -> Any:
    """The value at `path` of nested dicts and lists."""
    for part in path:
        tree = tree[part]
    return tree
