"""The files that a spec is compiled from: found by real path, read once, and carried with the plan.

Templates, examples and schemas are all read here. What was read is remembered, and travels with the
plan: where it is compiled again, nothing is looked up on a disk. That machine may have no such
files, and here they may say something else by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gptflow.files import real
from gptflow.pipeline.size_limit import MAX_PROMPT_CHARS
from gptflow.spec.model import Spec
from gptflow.spec.paths import templates_folder


class TooLarge(ValueError):
    """A file that is larger than any prompt may be."""


class NoSuchFile(Exception):
    """The folder has no file of that name."""


class LiesOutside(NoSuchFile):
    """The name leads out of the folder, by itself or through a symbolic link."""


class SpecFolder:
    """A folder in which a spec names files. Pickles as its files that were read."""

    def __init__(self, folder: Path) -> None:
        # A name that no folder can have is told by the spec's own checks.
        self.root = real(folder) if "\0" not in str(folder) else Path.cwd()
        self._texts: dict[str, str] = {}
        self._all_names: tuple[str, ...] | None = None
        self._is_carried = False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_is_carried": True}

    def path(self, name: str) -> Path:
        """Where the file of a name is.

        Raises:
            LiesOutside: not in this folder.
            NoSuchFile: nowhere; or it was not read, in a folder that was carried.
            OSError, ValueError: it is a name that no file can have, or that may not be looked at.
        """
        if self._is_carried:
            if name not in self._texts:
                raise NoSuchFile(name)
            return self.root / name
        path = real(self.root / name)
        if not path.is_relative_to(self.root):
            raise LiesOutside(name)
        if not path.is_file():
            raise NoSuchFile(name)
        return path

    def text(self, name: str, path: Path) -> str:
        """The text of a file, whose `path` was found before. It is read once.

        Raises:
            OSError: it cannot be read.
            UnicodeDecodeError: it is not UTF-8.
            TooLarge: it is longer than a prompt may be.
        """
        if name not in self._texts:
            self._texts[name] = _text_of(path)
        return self._texts[name]

    def all_texts(self) -> dict[str, str]:
        """Every text of the folder by its relative path, for templates with computed names.

        Left out are hidden files, and what cannot be a template: too large, not UTF-8, or
        forbidden to read.
        """
        if self._all_names is None:
            self._all_names = tuple(self._names_of_texts())
        return {name: self._texts[name] for name in self._all_names}

    def _names_of_texts(self) -> Iterator[str]:
        for found in sorted(self.root.rglob("*")):
            if found.name.startswith("."):
                continue
            name = found.relative_to(self.root).as_posix()
            try:
                path = self.path(name)
                if path.stat().st_size > MAX_PROMPT_CHARS:
                    continue
                self.text(name, path)
            except (NoSuchFile, OSError, ValueError):  # a folder, a link out of this one, an image
                continue
            yield name


@dataclass(frozen=True, slots=True)
class SpecFiles:
    """The files of one spec, by the folder that it names them in."""

    templates: SpecFolder
    """For includes, and for {file: ...} of prompts, system messages and examples."""
    schemas: SpecFolder
    """The spec's own folder."""

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """The files as they are now on this machine; none of them is read yet."""
        return cls(SpecFolder(templates_folder(spec)), SpecFolder(spec.folder))


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_PROMPT_CHARS + 1)
    if len(content) > MAX_PROMPT_CHARS:
        raise TooLarge(f"it is larger than {MAX_PROMPT_CHARS:,} bytes")
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
