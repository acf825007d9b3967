"""CSV and TSV: a header, then one record of as many cells each; all values are strings.

A TSV file follows the rules of CSV with a tab between the cells, quotes included, as spreadsheets
write it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import BufferedReader

from gptflow.data.excerpt import data_error, short
from gptflow.data.json_text import encoded
from gptflow.data.sources.opening import RECORD_BYTES, lines, too_long, utf8
from gptflow.errors import DataError
from gptflow.records import Columns

Cells = tuple[list[str], list[str]]
"""The names of the header and the cells of a record."""


def split(stream: BufferedReader, file: str, *, delimiter: str) -> Iterator[tuple[int, Cells]]:
    """The records behind the header, with the lines they begin on; blank lines are passed over.

    Raises:
        DataError: quotes, header or number of cells are wrong.
    """
    lines = _Lines(stream, file)
    header: list[str] = []
    for line, cells in _records(lines, delimiter):
        if not header:
            header = cells
            _check_header(header, (file, line))
        elif len(cells) == len(header):
            yield line, (header, cells)
        else:
            raise data_error(
                (file, line),
                f"expected {len(header)} cells as in the header, found {len(cells)}",
                text=lines.last,
                hint="a cell with a delimiter or a line break in it must stand in quotes",
            )


def decode(piece: Cells, place: tuple[str, int]) -> tuple[bytes, Columns]:
    """The record as a JSON object of strings, and decoded."""
    del place  # whatever can be wrong is found by `split`
    columns = dict(zip(*piece, strict=True))
    return encoded(columns), columns


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    _allow_long_cells()
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = lines.begin_record()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise lines.broken(str(error), start) from None
        if cells is None:
            return
        if cells:
            yield start, cells


def _allow_long_cells() -> None:
    # The csv module keeps this limit for the whole process, and its 128 Ki are less than one long
    # document. It is only ever raised, so that a program around us keeps its own, larger one.
    csv.field_size_limit(max(csv.field_size_limit(), RECORD_BYTES))


def _check_header(header: list[str], place: tuple[str, int]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(header, 1):
        if not name.strip():
            what = f"column {number} of the header has no name"
            hint = "name it, or leave it out; for pandas: to_csv(..., index=False)"
            raise data_error(place, what, hint=hint)
        if name in seen:
            what = f"the header names column '{short(name)}' twice"
            raise data_error(place, what, hint="every column needs a name of its own")
        seen.add(name)


class _Lines:
    """The lines of a file as text, line ends included, as csv.reader wants them."""

    def __init__(self, stream: BufferedReader, file: str) -> None:
        self.number = 0
        self.last = ""
        self._lines = lines(stream, file)
        self._file = file
        self._start = 1
        self._bytes = 0

    def begin_record(self) -> int:
        """The number of the line that the next record begins on."""
        self._start, self._bytes = self.number + 1, 0
        return self._start

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        self._bytes += len(line)
        if self._bytes > RECORD_BYTES:
            raise too_long((self._file, self._start), ", or a quote in it is never closed")
        self.last = utf8(line, (self._file, self.number))
        return self.last

    def broken(self, error: str, start: int) -> DataError:
        """What the csv module's error means, for a record that begins on line `start`."""
        here = (self._file, self.number)
        if "expected after" in error:
            hint = 'inside a quoted cell a quote is written twice: ""'
            return data_error(
                here, "a cell goes on after its closing quote", text=self.last, hint=hint
            )
        if error.startswith("new-line character"):
            return data_error(
                here, "a lone CR outside quotes", hint="end the lines with LF: tr '\\r' '\\n' <FILE"
            )
        # An open quote swallows all that follows: its own line says more than the last one.
        return data_error(
            (self._file, start),
            "a quote in the record that begins here is never closed",
            hint='a quote that is part of a cell is written twice, in quotes: "5"" wide"',
        )
