"""Finding a person's module without running a line of it, and running it only then.

The working directory and the spec's folder are on no import path of their own. What a person adds
comes last on it: a file there is no other package's stand-in.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_loaded: dict[str, bytes] = {}
"""The digests of the hooks' files as they were when their modules were loaded, by module."""


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
        """Puts the folders on the import path, for as long as the process lives."""
        sys.path.extend(folder for folder in self.folders if folder not in sys.path)


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
        folders = found.submodule_search_locations
    return found


def _find(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        found = finder.find_spec(name, folders)
        if found is not None:
            return found
    return None


def load_module(name: str, file: Path | None) -> ModuleType:
    """The module; one whose file has changed since it was loaded is loaded again.

    Raises whatever its code raises.
    """
    digest = digest_of_file(file)
    known = _loaded.get(name)
    _loaded[name] = digest
    if name in sys.modules and known is not None and known != digest:
        return importlib.reload(sys.modules[name])
    return importlib.import_module(name)


def digest_of_file(file: Path | None) -> bytes:
    """A digest of a file's bytes; empty where there is none that can be read."""
    try:
        return blake2b(file.read_bytes(), digest_size=16).digest() if file else b""
    except OSError:
        return b""
