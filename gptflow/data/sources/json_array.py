"""A JSON array of objects, read as a stream: one element in memory at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from io import BufferedReader

from gptflow.data.excerpt import data_error, not_json, not_utf8
from gptflow.data.json_text import one_line, parse_object, too_deep, value_end
from gptflow.data.sources.opening import RECORD_BYTES, too_long
from gptflow.errors import DataError
from gptflow.records import Columns

CHUNK_BYTES = 1 << 18

LONGEST_TOKEN = len(r"\ud83d\ude00")
"""Characters before the end of the window in which half a token can lie; strings apart."""

_space = re.compile(r"[ \t\r\n]*")


def split(stream: BufferedReader, file: str) -> Iterator[tuple[int, bytes]]:
    """The elements as their exact text, with the lines they begin on.

    Raises:
        DataError: it is not an array of objects, is cut off, or goes on after its end.
    """
    window = _Window(stream, file)
    if window.next_character() != "[":
        raise window.unexpected("a JSON array", hint="for one object a line say format: jsonl")
    window.step()
    if window.next_character() != "]":
        yield from _elements(window)
    window.step()
    if window.next_character():
        raise window.unexpected("nothing after the array")


def _elements(window: _Window) -> Iterator[tuple[int, bytes]]:
    while True:
        if (start := window.next_character()) != "{":
            hint = "remove the comma before it" if start == "]" else "a row is an object: {...}"
            raise window.unexpected("a JSON object", hint=hint)
        yield window.line, window.take_value().encode()
        match window.next_character():
            case "]":
                return
            case ",":
                window.step()
            case _:
                raise window.unexpected("',' or ']' after an element")


def decode(element: bytes, place: tuple[str, int]) -> tuple[bytes, Columns]:
    """The element on one line, and what it says."""
    columns = parse_object(element, place)
    return one_line(element), columns


class _Window:
    """The part of the text that is in memory, and the place in it."""

    def __init__(self, stream: BufferedReader, file: str) -> None:
        self.line = 1
        self._stream = stream
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The character after any whitespace, left where it is; empty at the end of the file."""
        while True:
            found = _space.match(self._text, self._at)
            assert found is not None  # the pattern matches nothing at all, too
            self._advance(found.end())
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def step(self) -> None:
        """Go behind the next character."""
        self._advance(self._at + 1)

    def take_value(self) -> str:
        """The JSON value that begins here, as its text; go behind it."""
        while True:
            try:
                end = value_end(self._text, self._at)
            except json.JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._read_more()):
                    raise self._broken(error) from None
            except RecursionError:
                raise too_deep((self._file, self.line)) from None
            else:
                value = self._text[self._at : end]
                self._advance(end)
                return value

    def unexpected(self, wanted: str, hint: str | None = None) -> DataError:
        """The error for finding something else here than what was wanted."""
        found = self._text[self._at : self._at + 1]
        what = f"expected {wanted}, found {repr(found) if found else 'the end of the file'}"
        rest_of_line = self._text[self._at :].partition("\n")[0]
        return data_error((self._file, self.line), what, text=rest_of_line, hint=hint)

    def _advance(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _read_more(self) -> bool:
        """Append to the window; False at the end of the file."""
        # As much again as a value has taken so far: else one that spans many chunks would be
        # parsed from its start once for each of them, in quadratic time.
        rest = self._text[self._at :]
        if len(rest) > RECORD_BYTES:
            raise too_long((self._file, self.line))
        data = self._stream.read(max(CHUNK_BYTES, len(rest)))
        try:
            more = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = (self._file, self.line + rest.count("\n"))
            raise not_utf8(error, place) from None
        if data:
            self._text, self._at = rest + more, 0
        return bool(data)

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether the error can come from the end of the window, not from the text itself."""
        near_end = error.pos >= len(self._text) - LONGEST_TOKEN
        return near_end or error.msg.startswith("Unterminated string")

    def _broken(self, error: json.JSONDecodeError) -> DataError:
        text = self._text[self._at : error.pos + LONGEST_TOKEN * 10]
        return not_json(error, (self._file, self.line), text, error.pos - self._at)
