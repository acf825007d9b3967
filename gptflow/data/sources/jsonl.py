"""JSON Lines: one JSON object a line; blank lines are passed over."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader

from gptflow.data.json_text import SPACE, parse_object
from gptflow.data.sources.opening import lines
from gptflow.errors import DataError
from gptflow.records import Columns


def split(stream: BufferedReader, file: str, first: int = 1) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers. Only LF ends a line, as in RFC 8259."""
    for number, line in lines(stream, file, first):
        if text := line.strip(SPACE):
            yield number, text


def decode(line: bytes, place: tuple[str, int]) -> tuple[bytes, Columns]:
    """The line as it is, and what it says."""
    try:
        return line, parse_object(line, place)
    except DataError as error:
        if line[:1] == b"[" or line in (b"{", b"[{"):
            error.hint = "every line must be one JSON object; for a JSON array say format: json"
        raise
