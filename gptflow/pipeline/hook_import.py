"""Running a person's module from the very bytes that its digest is of.

Python runs a module from compiled code that it has kept, which it takes for that of the file if
time and size agree, and gives whatever was imported before under the same name. Neither may be the
code that is in the file now. Packages that are installed are left to Python: they are not edited.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from gptflow.pipeline.hook_file import find_module

_INSTALLED = {"site-packages", "dist-packages"}
_importing = threading.RLock()
_taken: dict[tuple[str, str, bytes], ModuleType] = {}
"""The modules that were run here, by name, place and digest."""


class NoDigest(Exception):
    """A module whose code cannot be read."""


class FromItsBytes(InspectLoader):
    """Loads a module of Python source, and keeps no compiled code of it."""

    def __init__(self, found: ModuleSpec) -> None:
        self._loader: Any = found.loader
        self._origin = str(found.origin)
        self._is_package = found.submodule_search_locations is not None
        self.digest = b""
        """Of what was run; empty before."""

    def get_code(self, fullname: str) -> CodeType:
        """The code, of the bytes as they are now."""
        del fullname
        data = self.get_data(self._origin)
        self.digest = _digest(data)
        code: CodeType = compile(data, self._origin, "exec", dont_inherit=True)
        return code

    def get_data(self, path: str) -> bytes:
        """The bytes of a file that is beside the module, or the module's own."""
        data: bytes = self._loader.get_data(path)
        return data

    def get_source(self, fullname: str) -> str | None:
        """The source, for whoever shows lines of it."""
        source: str | None = self._loader.get_source(fullname)
        return source

    def is_package(self, fullname: str) -> bool:
        """Whether other modules are inside of it."""
        del fullname
        return self._is_package

    def get_resource_reader(self, fullname: str) -> Any:
        """What `importlib.resources` reads a package's data files with."""
        return self._loader.get_resource_reader(fullname)


class _Finder(MetaPathFinder):
    """Finds what the others find, and has it run from its bytes if it is a person's own."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            found = None if finder is self else finder.find_spec(fullname, path, target)
            if found is not None:
                return _from_its_bytes(found)
        return None


def load_module(found: ModuleSpec) -> tuple[ModuleType, bytes]:
    """A module, and the digest of the code that it was run from.

    Raises:
        NoDigest: its code cannot be read.
        BaseException: whatever its code raises.
    """
    with _importing:
        digest = digest_of(found)
        if not _is_own(found):
            return importlib.import_module(found.name), digest
        _forget_other_parents(found.name)
        known = _taken.get((found.name, str(found.origin), digest))
        if known is not None:
            sys.modules[found.name] = known
            return known, digest
        module = _run(found.name)
        digest = _digest_of_run(module) or digest  # the file may just have been written
        _taken[found.name, str(found.origin), digest] = module
        return module, digest


def load_anew(*found: ModuleSpec | None) -> None:
    """Has modules run again when they are loaded the next time."""
    with _importing:
        for each in filter(None, found):
            sys.modules.pop(each.name, None)
            for place in [place for place in _taken if place[0] == each.name]:
                del _taken[place]


def is_current(module: ModuleType) -> bool:
    """Whether a module that was imported is what its file holds now."""
    found = module.__spec__
    return found is None or not _is_own(found) or _digest_of_run(module) == digest_of(found)


def _is_own(found: ModuleSpec) -> bool:
    """Whether a module is source of a person's, not Python's own nor of an installed package."""
    if not found.has_location or not str(found.origin).endswith(".py"):
        return False
    origin = Path(str(found.origin))
    is_of_python = origin.is_relative_to(sysconfig.get_path("stdlib"))
    return not is_of_python and not _INSTALLED & set(origin.parts)


def digest_of(found: ModuleSpec) -> bytes:
    """A digest of a module's code as it is now; of what is built into Python, of its version."""
    if not found.has_location and found.name.partition(".")[0] in sys.stdlib_module_names:
        return _digest(sys.version.encode())
    return _digest(_bytes_of(found))


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _bytes_of(found: ModuleSpec) -> bytes:
    loader: Any = found.loader
    try:
        data: bytes = loader.get_data(found.origin)
    except Exception as error:  # of the zip file that it is in, say
        raise NoDigest(str(found.origin or found.name)) from error
    return data


def _digest_of_run(module: ModuleType) -> bytes:
    """The digest of the code that a module was run from; empty if Python has run it."""
    loader = module.__spec__ and module.__spec__.loader
    return loader.digest if isinstance(loader, FromItsBytes) else b""


def _run(name: str) -> ModuleType:
    """Runs a module. One that was imported before stays where this one fails."""
    before = sys.modules.pop(name, None)
    try:
        with _own_finder():
            return importlib.import_module(name)
    except BaseException:
        if before is not None:
            sys.modules[name] = before
        raise


@contextmanager
def _own_finder() -> Iterator[None]:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _from_its_bytes(found: ModuleSpec) -> ModuleSpec:
    if _is_own(found):
        found.loader = FromItsBytes(found)
    return found


def _forget_other_parents(name: str) -> None:
    """Lets go of packages of that name which are elsewhere, with all that is in them."""
    parent = name.rpartition(".")[0]
    if not parent:
        return
    _forget_other_parents(parent)
    found, here = find_module(parent), sys.modules.get(parent)
    known = here and here.__spec__
    if found and known and _is_own(found) and known.origin != found.origin:
        for each in [each for each in sys.modules if f"{each}.".startswith(f"{parent}.")]:
            del sys.modules[each]
