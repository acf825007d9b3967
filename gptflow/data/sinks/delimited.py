"""CSV: a header, then one row a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import BinaryIO

from gptflow.data.json_text import decode_string
from gptflow.data.sinks.row_text import row_members
from gptflow.records import RowResult

_CELL_START = re.compile(
    r"""(?P<start>\A|[;\t])(?P<blank>[\x00-\x20\x85\xa0\ufeff"]*+)(?P<formula>(?=[-=+@\uff0b\uff0d\uff1d\uff20]))?"""
)
"""Where a spreadsheet may see the start of a cell, and whether a formula begins there: with = + -
or @, as they are or full-width. White space, quotes and a byte order mark before them do not help,
for programs drop these; and behind a ; or a TAB another cell begins in countries where these are
the separators. See https://owasp.org/www-community/attacks/CSV_Injection."""

_APOSTROPHE = "'"
_LEADING_BREAKS = ("\t", "\r", "\n")
_NUMBER_STARTS = frozenset(b"-0123456789")


class CsvSink:
    """Writes strings as they are, null and missing values as nothing, the rest as JSON text."""

    def __init__(self, stream: BinaryIO, columns: Sequence[str], *, safe: bool = False) -> None:
        """`safe`: put an apostrophe before what a spreadsheet would take for a formula.

        Header cells and texts get one; numbers do not, -5 stays -5.
        """
        self._stream = stream
        self._columns = columns
        self._cell = _safe_cell if safe else _cell
        self._lines = csv.writer(_Lines(stream))
        self._lines.writerow(map(_without_formula, columns) if safe else columns)

    def write(self, result: RowResult) -> None:
        """Append the row."""
        values = row_members(result)
        self._lines.writerow([self._cell(values.get(name, b"null")) for name in self._columns])

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


def _safe_cell(value: bytes) -> str:
    return _cell(value) if value[0] in _NUMBER_STARTS else _without_formula(_cell(value))


def _without_formula(text: str) -> str:
    return _CELL_START.sub(_disarmed, text)


def _disarmed(match: re.Match[str]) -> str:
    is_first = match.start() == 0 and not match["start"]
    before = _APOSTROPHE if is_first and match["blank"][:1] in _LEADING_BREAKS else ""
    return f"{before}{match[0]}{'' if match['formula'] is None else _APOSTROPHE}"


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
