"""Files as one source, one after the other, each in the format its name tells."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from io import BufferedReader
from pathlib import Path
from typing import Any, get_args

from gptflow.data.excerpt import printable
from gptflow.data.record import Record
from gptflow.data.sources import delimited, json_array, jsonl, text
from gptflow.data.sources.opening import opened
from gptflow.data.sources.parquet import ParquetWalk
from gptflow.data.sources.wanted import Wanted
from gptflow.errors import DataError
from gptflow.records import Columns
from gptflow.spec.model import SourceFormat


@dataclass(frozen=True, slots=True)
class Format:
    """How to read a format of text: in two steps, so that a record nobody wants is not decoded."""

    split: Callable[[BufferedReader, str], Iterator[tuple[int, Any]]]
    """Stream and file name to pieces, one a record, each with the line it begins on."""
    decode: Callable[[Any, tuple[str, int]], tuple[bytes, Columns]]
    """A piece and its place to a JSON object on one line, and that decoded."""


FORMATS: dict[SourceFormat, Format] = {
    "jsonl": Format(jsonl.split, jsonl.decode),
    "json": Format(json_array.split, json_array.decode),
    "csv": Format(partial(delimited.split, delimiter=","), delimited.decode),
    "tsv": Format(partial(delimited.split, delimiter="\t"), delimited.decode),
    "txt": Format(text.split, text.decode),
}


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of the source."""

    path: Path
    format: SourceFormat
    name: str
    """What messages call it."""

    @classmethod
    def of(cls, path: Path, format_: SourceFormat | None = None) -> InputFile:
        """The file at `path`, in the given format or the one that its name tells."""
        return cls(path, format_ or format_of(path), shown(path))


def format_of(path: Path) -> SourceFormat:
    """The format that a file's name tells, under .gz and .zst.

    Raises:
        DataError: it tells none.
    """
    suffixes = [suffix.lower().removeprefix(".") for suffix in path.suffixes]
    if suffixes and suffixes[-1] in ("gz", "zst"):
        suffixes.pop()
    names: tuple[SourceFormat, ...] = get_args(SourceFormat)
    for name in names:
        if suffixes and suffixes[-1] == name:
            return name
    raise DataError(
        f"{shown(path)}: the name does not tell the format",
        hint=f"add source.format: one of {', '.join(names)}",
    )


def shown(path: Path) -> str:
    """The path as a person would type it here."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if path.is_relative_to(here) else path))


class FileSource:
    """One or more files, read in the order given."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        self.files = tuple(files)

    def records(self, only: Iterable[int] | None = None) -> Iterator[Record]:
        """The records of all files, numbered through; see `Source.records`."""
        wanted, first, tables = Wanted(only), 0, ParquetWalk()
        for file in self.files:
            if wanted.next is None:
                return
            if file.format == "parquet":
                first = yield from tables.records(file.path, file.name, first, wanted)
            else:
                first = yield from _text_records(file, first, wanted)

    def fingerprint(self) -> str:
        """A hash of each file's path, size, times and inode; no byte of it is read.

        The time of change of the inode tells of an edit whose author has put the other one back.
        """
        digest = blake2b(digest_size=16)
        for file in self.files:
            try:
                found = file.path.stat()
            except OSError as error:
                raise DataError(f"{file.name}: cannot be read: {error.strerror}") from None
            times = (found.st_mtime_ns, found.st_ctime_ns)
            identity = (file.path, file.format, found.st_size, *times, found.st_ino)
            digest.update(repr(identity).encode(errors="surrogateescape"))
        return f"files:{digest.hexdigest()}"


def _text_records(file: InputFile, first: int, wanted: Wanted) -> Generator[Record, None, int]:
    """The wanted records of a file of text; returns the number behind its last one."""
    format_, name = FORMATS[file.format], file.name
    number, next_wanted = first, wanted.next
    with opened(file.path, name) as stream:
        for line, piece in format_.split(stream, name):
            if number == next_wanted:
                raw, columns = format_.decode(piece, (name, line))
                yield Record(number, raw, columns, name, line)
                if (next_wanted := wanted.step()) is None:
                    break
            number += 1
    return number
