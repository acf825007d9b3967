"""Rows that stand in the spec itself, and ranges of numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import count
from typing import Any

from gptflow.data.excerpt import data_error
from gptflow.data.json_text import parse_object
from gptflow.data.record import Record
from gptflow.records import Columns


class InlineSource:
    """Rows given as mappings."""

    def __init__(self, rows: Sequence[Columns], place_of: Callable[[int], tuple[str, int]]) -> None:
        self._rows = rows
        self._place_of = place_of

    def records(self, only: Iterable[int] | None = None) -> Iterator[Record]:
        """The rows as records, in order; see `Source.records`."""
        for number in range(len(self._rows)) if only is None else only:
            if number >= len(self._rows):
                return
            place = self._place_of(number)
            raw = _json_text(self._rows[number], place)
            # Decoded again, for what templates see to be what the output says.
            yield Record(number, raw, parse_object(raw, place), *place)

    def fingerprint(self) -> str:
        """A hash of all rows."""
        digest = blake2b(digest_size=16)
        for record in self.records():
            digest.update(record.raw + b"\n")
        return f"rows:{digest.hexdigest()}"


def _json_text(row: Any, place: tuple[str, int]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
        return json.dumps(row, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        what = f"a row that JSON cannot hold: {error}"
        raise data_error(place, what, text=repr(row)) from None


class RangeSource:
    """Numbered rows with the one column `index`."""

    def __init__(self, size: int, place: tuple[str, int]) -> None:
        self._size = size
        self._place = place

    def records(self, only: Iterable[int] | None = None) -> Iterator[Record]:
        """The numbers as records, in order; see `Source.records`."""
        for number in count() if only is None else only:
            if number >= self._size:
                return
            yield Record(number, b'{"index":%d}' % number, {"index": number}, *self._place)

    def fingerprint(self) -> str:
        """The size says it all."""
        return f"range:{self._size}"
