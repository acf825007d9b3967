"""Plain text: one row a line, with the one column `text`; blank lines are rows too."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader

from gptflow.data.json_text import encoded
from gptflow.data.sources.opening import lines, utf8
from gptflow.records import Columns


def split(stream: BufferedReader, file: str, first: int = 1) -> Iterator[tuple[int, bytes]]:
    """The lines, with their numbers. Only LF and CRLF end one; the last needs no end."""
    for number, line in lines(stream, file, first):
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def decode(line: bytes, place: tuple[str, int]) -> tuple[bytes, Columns]:
    """The line as a JSON object and as a record."""
    columns = {"text": utf8(line, place)}
    return encoded(columns), columns
