"""A source: records by number, read anew on every walk."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

from gptflow.data.excerpt import printable
from gptflow.data.record import Record
from gptflow.data.sources.files import FileSource, InputFile
from gptflow.data.sources.inline import InlineSource, RangeSource
from gptflow.data.sources.spool import spool
from gptflow.errors import DataError
from gptflow.spec.model import SourceFormat, Spec
from gptflow.spec.paths import resolve_source, source_patterns

STDIN = Path("-")


class Source(Protocol):
    """Where the rows come from."""

    def records(self, only: Iterable[int] | None = None) -> Iterator[Record]:
        """The records, from the first; each call walks the source anew.

        `only` gives the numbers of the records that are wanted, ascending; it is read lazily, one
        ahead. The others are passed over as cheaply as the format allows, and not checked.

        Raises:
            DataError: a record is broken, or a file cannot be read.
        """
        ...

    def fingerprint(self) -> str:
        """An inexpensive identity of the content.

        While it stays the same nobody has touched the source, and it need not be read again.

        Raises:
            DataError: a file cannot be read.
        """
        ...


def locate(source: Source, numbers: Sequence[int]) -> list[tuple[str, int]]:
    """File and line of the records with these numbers, in the order of the numbers given."""
    places = {
        record.number: (record.file, record.line)
        for record in source.records(only=sorted(set(numbers)))
    }
    return [places[number] for number in numbers]


def first_columns(source: Source, n: int = 20) -> list[str]:
    """The columns of the first `n` records, in the order they are first seen."""
    # One record at a time: a hundred of 20 MB each need not lie in memory together.
    records = islice(source.records(), n)
    return list(dict.fromkeys(name for record in records for name in record.columns))


def open_source(
    spec: Spec, *, spool_folder: Path | None = None, stdin: BinaryIO | None = None
) -> Source:
    """The source that a spec names. Nothing is read yet, but standard input is copied to disk.

    Args:
        spec: The spec. Whether it selects only some records is not looked at here.
        spool_folder: Where the copy of standard input goes; without it that cannot be a source.
        stdin: Read in place of standard input.

    Raises:
        DataError: no file fits the path, or the format of one is not known.
    """
    source = spec.source
    if source.rows is not None:
        return InlineSource(source.rows, lambda number: _place(spec, "rows", number))
    if source.range is not None:
        return RangeSource(source.range, _place(spec, "range"))
    paths = resolve_source(spec)
    if not paths:
        patterns = " or ".join(source_patterns(source.path))
        raise DataError(
            f"no file matches {printable(patterns)}",
            hint="source.path is relative to the spec file",
        )
    return open_files(paths, source.format, spool_folder=spool_folder, stdin=stdin)


def open_files(
    paths: Sequence[Path],
    format_: SourceFormat | None = None,
    *,
    spool_folder: Path | None = None,
    stdin: BinaryIO | None = None,
) -> FileSource:
    """The files at `paths` as one source; "-" among them is standard input."""

    def input_file(path: Path) -> InputFile:
        if path != STDIN:
            return InputFile.of(path, format_)
        if spool_folder is None:
            hint = "put the rows into a file for this command"
            raise DataError("the source is standard input, which cannot be read here", hint=hint)
        spooled = spool(stdin or sys.stdin.buffer, spool_folder, f".{format_ or 'jsonl'}")
        return InputFile(spooled, format_ or "jsonl", "stdin")

    return FileSource([input_file(path) for path in paths])


def _place(spec: Spec, *path: str | int) -> tuple[str, int]:
    place = spec.origin.place(("source", *path))
    return place.file, place.line
