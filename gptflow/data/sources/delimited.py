"""CSV and TSV: a header, then one record of as many cells each; all values are strings.

A TSV file follows the rules of CSV with a tab between the cells, quotes included, as spreadsheets
write it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import BufferedReader

from gptflow.data.excerpt import data_error, printable
from gptflow.data.json_text import encoded
from gptflow.data.sources.opening import utf8
from gptflow.errors import DataError
from gptflow.records import Columns

CELL_CHARACTERS = 1 << 26
"""The longest cell. Without a bound, a quote that is never closed takes the rest of the file."""

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
        start = lines.number + 1
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
    csv.field_size_limit(max(csv.field_size_limit(), CELL_CHARACTERS))


def _check_header(header: list[str], place: tuple[str, int]) -> None:
    for number, name in enumerate(header, 1):
        if not name.strip():
            raise data_error(place, f"column {number} of the header has no name")
        if name in header[: number - 1]:
            what = f"the header names column '{printable(name)}' twice"
            raise data_error(place, what, hint="every column needs a name of its own")


class _Lines:
    """The lines of a file as text, line ends included, as csv.reader wants them."""

    def __init__(self, stream: BufferedReader, file: str) -> None:
        self.number = 0
        self.last = ""
        self._stream = stream
        self._file = file

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._stream)
        self.number += 1
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
                here, "a lone CR outside quotes", hint="end the lines with LF or CRLF"
            )
        # An open quote swallows all that follows: its own line says more than the last one.
        return data_error(
            (self._file, start), "a quote in the record that begins here is never closed"
        )
