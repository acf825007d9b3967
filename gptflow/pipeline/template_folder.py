"""The folder from which a spec's templates are read, while it is compiled and never later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jinja2 import TemplateNotFound

from gptflow.files import real
from gptflow.pipeline.size_limit import MAX_PROMPT_CHARS


class TooLarge(ValueError):
    """A file that is larger than any prompt may be."""


def read_text(path: Path) -> str:
    """The text of a file that a spec names.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        TooLarge: it is longer than a prompt may be.
    """
    with path.open("rb") as file:
        content = file.read(MAX_PROMPT_CHARS + 1)
    if len(content) > MAX_PROMPT_CHARS:
        raise TooLarge(f"it is larger than {MAX_PROMPT_CHARS:,} bytes")
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


class TemplateFolder:
    """Finds templates in one folder, by real path: a symbolic link out of it is refused."""

    def __init__(self, folder: Path) -> None:
        # A name that no folder can have is told by the spec's own checks.
        self.root = real(folder) if "\0" not in str(folder) else Path.cwd()

    def path(self, name: str) -> Path:
        """The file behind a template's name; TemplateNotFound if it is none, or lies outside."""
        try:
            path = real(self.root / name)
            is_ours = path.is_relative_to(self.root) and path.is_file()
        except (OSError, ValueError):  # a name that no file can have: too long, or with a NUL
            is_ours = False
        if not is_ours:
            raise TemplateNotFound(name)
        return path

    def all_texts(self) -> dict[str, str]:
        """Every text of the folder by its relative path, for templates with computed names.

        Left out are hidden files, and what cannot be a template: too large, not UTF-8, or
        forbidden to read.
        """
        texts = {}
        for name, path in self._files():
            try:
                texts[name] = read_text(path)
            except (OSError, UnicodeDecodeError, TooLarge):
                continue
        return texts

    def _files(self) -> Iterator[tuple[str, Path]]:
        for found in sorted(self.root.rglob("*")):
            if found.name.startswith("."):
                continue
            name = found.relative_to(self.root).as_posix()
            try:
                path = self.path(name)
            except TemplateNotFound:  # a folder, or a link out of this one
                continue
            if path.stat().st_size <= MAX_PROMPT_CHARS:
                yield name, path
