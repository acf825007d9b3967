"""Parquet: each column has a type that holds all its values, widened where a later one needs it.

Rows are written in groups. Where a group needs wider types, a new part with these begins, and at
the end the parts are written again as one; most outputs have a single part, which is the file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from weakref import finalize

from gptflow.data.arrow import load_arrow
from gptflow.data.excerpt import short
from gptflow.data.sinks.column_type import JSON, NULL, Kinds, Values, json_of, type_of
from gptflow.data.sinks.row_text import row_members
from gptflow.errors import UsageError
from gptflow.records import RowResult

GROUP_ROWS = 1 << 14
GROUP_BYTES = 1 << 24
"""So many rows or bytes of JSON are a row group, and held in memory until they are one."""

COMPRESSION = "zstd"

MOST_PARTS = 16
"""Each is an open file."""


class ParquetSink:
    """Writes rows as a table. Before it is finished no part of it can be read.

    Text, booleans, integers of 64 bits and doubles, and lists of one of them, are Parquet's own.
    A column of anything else, or of several kinds, is Parquet's JSON: each value as its JSON text.
    """

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        """Writes nothing yet.

        Raises:
            MissingExtra: pyarrow is not installed.
            UsageError: there is no column, or Parquet cannot hold the name of one.
        """
        self._stream = stream
        self._names = _checked(list(dict.fromkeys(columns)))
        self._kinds = [Kinds(0)] * len(self._names)
        self._table = _Table(stream, self._names)
        self._rows: list[list[bytes]] = []
        self._bytes = 0

    def write(self, result: RowResult) -> None:
        """Append the row."""
        values = row_members(result)
        self._rows.append([values.get(name, NULL) for name in self._names])
        self._bytes += len(result.raw) + len(result.fields)
        if len(self._rows) == GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def flush(self) -> None:
        """Hand what was written to the operating system: whole row groups."""
        self._stream.flush()

    def finish(self) -> None:
        """Write the rows that wait, and what ends the format; flush."""
        if self._rows:
            self._write_group()
        self._table.finish(list(map(type_of, self._kinds)))
        self._stream.flush()

    def _write_group(self) -> None:
        rows = len(self._rows)
        columns = [Values.of(texts) for texts in zip(*self._rows, strict=True)]
        self._rows, self._bytes = [], 0
        self._kinds = [
            known | values.kinds for known, values in zip(self._kinds, columns, strict=True)
        ]
        self._table.write(list(map(type_of, self._kinds)), columns, rows)


def _checked(names: list[str]) -> list[str]:
    if not names:
        raise UsageError(
            "a Parquet file needs a column, and the rows have none",
            hint="extract a field, or write .jsonl",
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"a Parquet file cannot have the column '{short(name)}': its name has half of a "
                "surrogate pair, and cannot be UTF-8",
                hint="name other columns in output.columns, or write .jsonl",
            ) from None
    return names


@dataclass(slots=True)
class _Part:
    """A Parquet file that is being written."""

    file: BinaryIO
    types: list[str]
    writer: Any


class _Table:
    """The parts of the output."""

    def __init__(self, stream: BinaryIO, names: list[str]) -> None:
        self._arrow = load_arrow()
        self._stream = stream
        self._names = names
        self._parts: list[_Part] = []

    def write(self, types: list[str], columns: list[Values], rows: int) -> None:
        """Append a row group; in a part of its own, unless the last one has these types."""
        if not self._parts or self._parts[-1].types != types:
            self._begin_part(types)
        arrays = [
            self._array(type_, values.as_json() if type_ == JSON else values.decoded)
            for type_, values in zip(types, columns, strict=True)
        ]
        self._write(self._parts[-1], arrays, rows)

    def finish(self, types: list[str]) -> None:
        """Make one file of the parts, with these types, in the stream."""
        if not self._parts:
            self._begin_part(types)
        self._parts[-1].writer.close()
        if len(self._parts) > 1:
            self._merge(types, self._stream)
            self._parts[0].writer.close()
        elif (file := self._parts[0].file) is not self._stream:
            file.seek(0)
            shutil.copyfileobj(file, self._stream)
            file.close()

    def _begin_part(self, types: list[str]) -> None:
        if self._parts:
            self._parts[-1].writer.close()
        if len(self._parts) == MOST_PARTS:
            is_first = self._parts[0].file is self._stream
            self._merge(types, self._stream if is_first else self._spare())
            return
        # What cannot be read again goes there when all is known; a pipe, for one.
        is_first = not self._parts and self._stream.seekable() and self._stream.readable()
        file = self._stream if is_first else self._spare()
        self._parts.append(_Part(file, types, self._writer(file, types)))

    def _spare(self) -> BinaryIO:
        """A file without a name, beside the output, where there should be room."""
        name = getattr(self._stream, "name", None)
        folder = Path(name).parent if isinstance(name, str | Path) else None
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed below, or when merged)
        finalize(self, file.close)  # nobody says of a sink that it is given up
        return file

    def _merge(self, types: list[str], file: BinaryIO) -> None:
        """Make one part of them all, with these types, in a file of its own or in the stream."""
        first = self._parts[0]
        if first.file is self._stream:
            first.file = self._spare()
            self._stream.seek(0)
            shutil.copyfileobj(self._stream, first.file)
            self._stream.seek(0)
            self._stream.truncate()
        whole = _Part(file, types, self._writer(file, types))
        for part in self._parts:
            part.file.seek(0)
            with part.file, self._arrow.parquet.ParquetFile(part.file) as table:
                for group in range(table.num_row_groups):
                    self._append(whole, part.types, table.read_row_group(group, use_threads=False))
        self._parts = [whole]

    def _append(self, whole: _Part, types: list[str], table: Any) -> None:
        """Append a row group of a part, with the types of the whole."""
        arrays = [
            column if wide == narrow else self._widened(wide, column.to_pylist())
            for wide, narrow, column in zip(whole.types, types, table.columns, strict=True)
        ]
        self._write(whole, arrays, table.num_rows)

    def _widened(self, wide: str, values: list[Any]) -> Any:
        if wide == JSON:
            values = [None if value is None else json_of(value) for value in values]
        return self._array(wide, values)

    def _write(self, part: _Part, arrays: list[Any], rows: int) -> None:
        table = self._arrow.table(arrays, schema=self._schema(part.types))
        part.writer.write_table(table, row_group_size=rows)

    def _writer(self, file: BinaryIO, types: list[str]) -> Any:
        schema = self._schema(types)
        return self._arrow.parquet.ParquetWriter(
            _Out(file), schema, compression=COMPRESSION, write_page_checksum=True
        )

    def _schema(self, types: list[str]) -> Any:
        pairs = zip(self._names, map(self._type, types), strict=True)
        return self._arrow.schema(list(pairs))

    def _array(self, type_: str, values: list[Any]) -> Any:
        arrow, kind = self._arrow, self._type(type_)
        if type_ == JSON:
            texts = arrow.array(values, arrow.string())
            return arrow.ExtensionArray.from_storage(kind, texts)
        return arrow.array(values, kind)

    def _type(self, name: str) -> Any:
        if name == JSON:
            return self._arrow.json_(self._arrow.string())
        if name.startswith("list<"):
            return self._arrow.list_(self._type(name[5:-1]))
        return self._arrow.type_for_alias(name)


class _Out:
    """What Arrow writes to: a stream of the caller, who may have closed it.

    Arrow ends a file that nobody has finished when it is dropped. Where that was left by an
    interruption or a full disk, there is nothing to end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.closed = False
        self._stream = stream
        self._size = 0

    def write(self, data: Any) -> int:
        if self.closed or self._stream.closed:
            return len(data)
        try:
            self._stream.write(data)
        except OSError:
            self.closed = True
            raise
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """The stream is the caller's."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
