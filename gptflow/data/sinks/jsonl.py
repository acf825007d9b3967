"""JSON Lines: one row a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from gptflow.data.sinks.row_text import RowText
from gptflow.records import RowResult


class JsonlSink:
    """Writes one JSON object a line."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str] | None = None) -> None:
        self._stream = stream
        self._row_text = RowText(columns)

    def write(self, result: RowResult) -> None:
        """Append the row as a line."""
        self._stream.write(self._row_text.of(result) + b"\n")

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._stream.flush()

    def finish(self) -> None:
        """Flush: the format has no end of its own."""
        self._stream.flush()
