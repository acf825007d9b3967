"""A sink: writes finished rows to a stream in one format, in the order they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, get_args

from gptflow.data.sinks.delimited import CsvSink
from gptflow.data.sinks.json_array import JsonArraySink
from gptflow.data.sinks.jsonl import JsonlSink
from gptflow.data.sinks.parquet import ParquetSink
from gptflow.errors import UsageError
from gptflow.records import RowResult
from gptflow.spec.model import OutputFormat

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)


class Sink(Protocol):
    """Writes rows to a stream that belongs to the caller."""

    def write(self, result: RowResult) -> None:
        """Append a row that is done."""
        ...

    def flush(self) -> None:
        """Hand what was written to the operating system: others can read it, but for Parquet."""
        ...

    def finish(self) -> None:
        """Write what ends the format, and flush. The stream stays open."""
        ...


def open_sink(
    stream: BinaryIO,
    output_format: OutputFormat,
    *,
    columns: Sequence[str] | None = None,
    known: Sequence[str] = (),
    csv_safe: bool = False,
) -> Sink:
    """The sink for a format.

    Args:
        stream: Where the bytes go. One that can be read and truncated spares Parquet a copy.
        output_format: One of `FORMATS`.
        columns: Columns and fields to write, in this order; without it all of every row.
        known: All columns and fields that any row has, in order: without `columns` they are the
            header of a CSV file and the columns of a Parquet file, which must be known before the
            first row.
        csv_safe: In a CSV file, put an apostrophe before what a spreadsheet would take for a
            formula. Nothing tells it from one that belongs to the text: this loses information.

    Raises:
        MissingExtra: the format needs a package that is not installed.
    """
    match output_format:
        case "jsonl":
            return JsonlSink(stream, columns)
        case "json":
            return JsonArraySink(stream, columns)
        case "csv":
            return CsvSink(stream, known if columns is None else columns, safe=csv_safe)
        case "parquet":
            return ParquetSink(stream, known if columns is None else columns)


def output_format_of(path: Path) -> OutputFormat:
    """The format that the name of an output tells.

    Raises:
        UsageError: it tells none.
    """
    for name in FORMATS:
        if path.suffix.lower() == f".{name}":
            return name
    raise UsageError(
        f"{path}: the name does not tell the format",
        hint="end it in .jsonl, .json, .csv or .parquet",
    )
