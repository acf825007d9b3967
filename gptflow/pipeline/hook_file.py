"""Where a person's modules may be, and finding one without running a line of it.

The working directory and the spec's folder are on no import path of their own. What a person adds
comes last on it: a file there is no other package's stand-in.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

_entered: list[str] = []
"""The folders that were put on the import path, in its order."""


@dataclass(frozen=True, slots=True)
class PythonAccess:
    """What a person lets a spec's hooks do. Travels with a plan, to where it is compiled again."""

    is_allowed: bool = False
    folders: tuple[str, ...] = ()
    """Absolute; where modules are looked for after all other places."""

    @classmethod
    def of(
        cls, *, is_allowed: bool, folders: Sequence[str | os.PathLike[str]] = ()
    ) -> PythonAccess:
        """The access, with folders as a person names them."""
        return cls(is_allowed, tuple(str(Path(folder).resolve()) for folder in folders))

    def enter(self) -> None:
        """Puts the folders on the import path, for as long as the process lives.

        They come before those of another spec, which may have modules of the same names.
        """
        earlier = [folder for folder in _entered if folder in sys.path]
        others = [folder for folder in sys.path if folder not in earlier]
        own = [folder for folder in dict.fromkeys(self.folders) if folder not in others]
        _entered[:] = [*own, *(folder for folder in earlier if folder not in own)]
        sys.path[:] = [*others, *_entered]


def find_module(name: str) -> ModuleSpec | None:
    """Where a module is, without importing it or the packages that it is in; None if nowhere."""
    folders: Sequence[str] | None = None
    found: ModuleSpec | None = None
    parts = name.split(".")
    importlib.invalidate_caches()  # a file may be a moment old
    for depth in range(len(parts)):
        if depth and folders is None:
            return None  # its parent is no package
        found = _find(".".join(parts[: depth + 1]), folders)
        if found is None:
            return None
        inside = found.submodule_search_locations
        folders = None if inside is None else list(inside)
    return found


def _find(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            found = finder.find_spec(name, folders)
        except KeyError:  # a folder without __init__.py wants its parent, which is not imported
            found = finder.find_spec(name.rpartition(".")[2], folders)
        if found is not None:
            return found
    return None
