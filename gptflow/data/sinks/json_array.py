"""A JSON array with one row a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from gptflow.data.sinks.row_text import RowText
from gptflow.records import RowResult


class JsonArraySink:
    """Writes one array of objects. It is not valid JSON before it is finished."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str] | None = None) -> None:
        self._stream = stream
        self._row_text = RowText(columns)
        self._before = b"[\n"

    def write(self, result: RowResult) -> None:
        """Append the row as an element."""
        self._stream.write(self._before + self._row_text.of(result))
        self._before = b",\n"

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._stream.flush()

    def finish(self) -> None:
        """Close the array, and flush."""
        self._stream.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")
        self._stream.flush()
