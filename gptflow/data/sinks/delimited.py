"""CSV: a header, then one row a line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import BinaryIO

from gptflow.data.json_text import decode_string
from gptflow.data.sinks.row_text import row_members
from gptflow.records import RowResult


class CsvSink:
    """Writes strings as they are, null and missing values as nothing, the rest as JSON text."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self._columns = columns
        self._lines = csv.writer(_Lines(stream))
        self._lines.writerow(columns)

    def write(self, result: RowResult) -> None:
        """Append the row."""
        values = row_members(result)
        self._lines.writerow([_cell(values.get(name, b"null")) for name in self._columns])

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._stream.flush()

    def finish(self) -> None:
        """Flush: the format has no end of its own."""
        self._stream.flush()


def _cell(value: bytes) -> str:
    if value == b"null":
        return ""
    return decode_string(value) if value.startswith(b'"') else value.decode()


class _Lines:
    r"""What csv.writer writes to: one call a row, which ends in \r\n.

    It puts \n in place of that. Told to end the rows in \n itself, the writer of Python before
    3.13 would leave a cell with a \r in it unquoted, and no strict reader takes that.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        text = line.removesuffix("\r\n") + "\n"
        # A lone surrogate has no UTF-8: it is written as the \udXXX that JSON writes.
        self._stream.write(text.encode(errors="backslashreplace"))
