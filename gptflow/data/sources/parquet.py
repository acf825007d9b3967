"""Parquet: a row is a record, read batch by batch; row groups that nobody wants are passed over.

A record's line is its place among the rows of the file, from 1: the format has no lines.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any

from gptflow.data.arrow import load_arrow
from gptflow.data.excerpt import data_error, printable, short
from gptflow.data.json_text import encoded, parse_object
from gptflow.data.record import Record
from gptflow.data.sources.arrow_type import ArrowTypes, leaf_count, twice
from gptflow.data.sources.arrow_values import ArrowValues
from gptflow.data.sources.opening import PACKED, PARQUET, RECORD_BYTES, opened, too_long
from gptflow.data.sources.wanted import Wanted
from gptflow.errors import DataError
from gptflow.records import Columns

BATCH_ROWS = 1024
BATCH_BYTES = 1 << 22
"""So many rows or bytes are decoded at a time, going by what a row takes on average."""

READ_BYTES = 1 << 16
"""Read at once, for each column. A whole row group, or even a column of it, may be gigabytes."""


@dataclass(frozen=True, slots=True)
class _Table:
    """What a file says of its columns."""

    name: str
    kinds: dict[str, str | None]
    """What they hold, in words."""
    leaves: dict[str, range]
    """Which columns of Parquet each is made of. By name they could not be told: a.b may be one."""
    metadata: Any
    """The footer of the file."""

    def holds_nothing(self, column: str) -> bool:
        """Whether there is nothing but null in a column, as far as the footer tells."""
        chunks = [
            group.column(at)
            for group in map(self.metadata.row_group, range(self.metadata.num_row_groups))
            for at in self.leaves[column]
            if group.num_rows
        ]
        counts = [(chunk.statistics and chunk.statistics.null_count, chunk) for chunk in chunks]
        return all(nulls == chunk.num_values for nulls, chunk in counts)


class ParquetWalk:
    """One walk over the Parquet files of a source, which have the columns of the first."""

    def __init__(self) -> None:
        self._first: _Table | None = None

    def records(
        self, path: Path, name: str, first: int, wanted: Wanted
    ) -> Generator[Record, None, int]:
        """The wanted records of the next file; returns the number behind its last one.

        Args:
            path: The file.
            name: What messages call it.
            first: The number of its first record.
            wanted: The numbers of those to give.

        Raises:
            MissingExtra: pyarrow is not installed.
            DataError: the file cannot be read, holds what a row cannot, or other columns than the
                first one.
        """
        with _opened_table(path, name) as table:
            self._check(name, table)
            walk = _FileWalk(table, name, first)
            for group in range(table.num_row_groups):
                if wanted.next is None:
                    break
                yield from walk.group(group, wanted)
            return first + int(table.metadata.num_rows)

    def _check(self, name: str, table: Any) -> None:
        types, schema = ArrowTypes(), table.schema_arrow
        for field in schema:
            if unfit := types.unfit(field.type):
                raise DataError(
                    f"{name}: the column '{short(field.name)}' holds {unfit}",
                    hint="write the file without it, or as text",
                )
        if again := twice(schema.names):
            what = f"{name}: its rows are {again}"
            raise DataError(what, hint="every column needs a name of its own")
        kinds = {field.name: types.word(field.type) for field in schema}
        found = _Table(name, kinds, _leaves(schema), table.metadata)
        if self._first is None:
            self._first = found
        elif differs := _difference(found, self._first):
            hint = "the files of a source are to be parts of one table"
            raise DataError(f"{name}: {differs}", hint=hint)


def _leaves(schema: Any) -> dict[str, range]:
    counts = [leaf_count(field.type) for field in schema]
    ends = list(accumulate(counts))
    spans = zip(schema.names, ends, counts, strict=True)
    return {name: range(end - count, end) for name, end, count in spans}


_OF_ANY_KIND = frozenset(("nothing", "JSON"))


def _difference(found: _Table, first: _Table) -> str | None:
    """How a table differs from that of the first file; None where it is of the same kind."""
    for column in first.kinds:
        if column not in found.kinds:
            return f"there is no column '{short(column)}', which {first.name} has"
    for column, kind in found.kinds.items():
        if column not in first.kinds:
            return f"the column '{short(column)}' is not in {first.name}"
        known = first.kinds[column]
        if kind == known or not _OF_ANY_KIND.isdisjoint((kind, known)):
            continue
        # A writer that guesses the types has guessed one for a column of nulls, too.
        if not (found.holds_nothing(column) or first.holds_nothing(column)):
            return f"the column '{short(column)}' holds {kind}, in {first.name} {known}"
    return None


class _FileWalk:
    """The records of one file."""

    def __init__(self, table: Any, name: str, first: int) -> None:
        self._table = table
        self._name = name
        self._first = first
        self._number = first

    def group(self, group: int, wanted: Wanted) -> Iterator[Record]:
        """The wanted records of the next row group."""
        found = self._table.metadata.row_group(group)
        end = self._number + found.num_rows
        if wanted.next is not None and wanted.next < end:
            row_bytes = found.total_byte_size // max(1, found.num_rows) + 1
            rows = min(BATCH_ROWS, BATCH_BYTES // row_bytes + 1)
            batches = self._table.iter_batches(rows, row_groups=[group], use_threads=False)
            for batch in batches:
                yield from self._batch(batch, wanted)
                if wanted.next is None:
                    return
            if self._number != end:
                raise _damaged(self._name, f"a row group has lost rows before row {end:,}")
        self._number = end

    def _batch(self, batch: Any, wanted: Wanted) -> Iterator[Record]:
        number, self._number = self._number, self._number + batch.num_rows
        if wanted.next is None or wanted.next >= self._number:
            return
        values = ArrowValues()
        names = batch.schema.names
        columns = [
            self._column(values, name, column, number)
            for name, column in zip(names, batch.columns, strict=True)
        ]
        rows = zip(*columns, strict=True) if columns else repeat((), batch.num_rows)
        for at, row in enumerate(rows, number):
            if at == wanted.next:
                yield self._record(at, dict(zip(names, row, strict=True)), has_raw=values.has_raw)
                wanted.step()

    def _record(self, number: int, columns: Columns, *, has_raw: bool) -> Record:
        place = (self._name, number - self._first + 1)
        raw = encoded(columns)
        if len(raw) > RECORD_BYTES:
            raise too_long(place)
        return Record(number, raw, parse_object(raw, place) if has_raw else columns, *place)

    def _column(self, values: ArrowValues, name: str, column: Any, number: int) -> list[Any]:
        try:
            return values.of(column)
        except (OverflowError, DataError):
            if len(column) > 1:  # once more, one by one, to tell which it is
                return [
                    value
                    for at in range(len(column))
                    for value in self._column(values, name, column.slice(at, 1), number + at)
                ]
            place = (self._name, number - self._first + 1)
            raise _unfit(place, name, values, column) from None


def _unfit(place: tuple[str, int], name: str, values: ArrowValues, column: Any) -> DataError:
    """The error for the one value in `column`, which a row cannot hold."""
    try:
        values.of(column)
    except DataError as error:
        what = error.message
    except OverflowError:
        what = "a date that is not in the years 1 to 9999"
    return data_error(place, f"the column '{short(name)}' holds {what}", hint="write it as text")


@contextmanager
def _opened_table(path: Path, name: str) -> Iterator[Any]:
    """The file as pyarrow's ParquetFile; its footer has been read."""
    arrow = load_arrow()
    if path.suffix.lower() in PACKED:
        hint = "unpack it: Parquet packs its columns itself"
        raise DataError(f"{name}: a Parquet file cannot be read through {path.suffix}", hint=hint)
    with opened(path, name, PARQUET) as stream:
        _check_ends(stream, name)
        try:
            with arrow.parquet.ParquetFile(
                stream,
                buffer_size=READ_BYTES,
                pre_buffer=False,  # it would read a row group as a whole
                # The times of old Spark files may lie in the year 9999: in nanoseconds they would
                # come out as others.
                coerce_int96_timestamp_unit="us",
                page_checksum_verification=True,
            ) as table:
                yield table
        except UnicodeDecodeError:
            raise _damaged(name, "a name in it is not UTF-8") from None
        except (arrow.ArrowException, OSError) as error:
            if getattr(error, "strerror", None):  # the disk's, not Arrow's
                raise
            raise _damaged(name, str(error)) from None


def _check_ends(stream: BufferedReader, name: str) -> None:
    start = stream.peek(len(PARQUET))[: len(PARQUET)]
    if start != PARQUET:
        hint = "give it a name that tells what it is, or say it by source.format"
        raise DataError(f"{name}: not a Parquet file: it does not begin with PAR1", hint=hint)
    size = stream.seek(0, 2)
    stream.seek(max(0, size - len(PARQUET)))
    if stream.read() != PARQUET or size < 3 * len(PARQUET):
        hint = "the file is incomplete: copy it again, or let its writer come to the end"
        raise DataError(f"{name}: the Parquet file is cut off: its end is missing", hint=hint)
    stream.seek(0)


def _damaged(name: str, reason: str) -> DataError:
    reason = printable(reason.strip().partition("\n")[0])
    return DataError(f"{name}: cannot be read: {reason}", hint="the file is damaged: copy it again")
