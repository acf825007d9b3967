"""`source.transform`: the records of a source as rows that a function of the user's makes of them.

A record may become several rows, or none. A row's number says which record it is of, and which of
that one's rows: so the second pass calls the function for those records alone that are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import groupby, tee
from typing import Protocol

from gptflow.data.excerpt import data_error
from gptflow.data.json_text import encoded
from gptflow.data.record import Record
from gptflow.errors import DataError
from gptflow.records import Columns

ROWS_BITS = 20
MOST_ROWS = 1 << ROWS_BITS
"""Rows that one record may become."""

SAME_HINT = (
    "the function of source.transform must give the same rows for the same record each time: no "
    "random numbers, no clock. If the source has changed, run the same command again. If a module "
    "that the function's file imports was edited, change a line of the function's file, too, which "
    "makes a new run that reuses every paid reply; or say --fresh, which asks anew"
)


class Records(Protocol):
    """What is transformed: a source."""

    def records(self, only: Iterable[int] | None = None) -> Iterator[Record]:
        """The records; see `sources.source.Source`."""
        ...

    def fingerprint(self) -> str:
        """An inexpensive identity of the content."""
        ...


class TransformedSource:
    """A source whose records are the rows that a function gives."""

    def __init__(
        self, source: Records, transform: Callable[[Columns], list[Columns]], identity: str
    ) -> None:
        """Transform a source.

        Args:
            source: what is read.
            transform: the rows of a record, each of plain JSON values; DataError where it fails.
            identity: of the function: another one makes other rows.
        """
        self._source = source
        self._transform = transform
        self._identity = identity

    def records(self, only: Iterable[int] | None = None) -> Iterator[Record]:
        """The rows in the order of their records; see `sources.source.Source.records`.

        Raises:
            DataError: a record is broken, or the function fails on it.
        """
        if only is None:
            for record in self._source.records():
                yield from self._rows(record)
            return
        ahead, wanted = tee(only)
        numbers = (number for number, _ in groupby(ahead, _record_of))
        groups = groupby(wanted, _record_of)
        for record, (_, of_record) in zip(self._source.records(only=numbers), groups, strict=False):
            rows = self._rows(record)
            for number in of_record:
                if number % MOST_ROWS >= len(rows):
                    place = (record.file, record.line)
                    what = f"the record has become {len(rows):,} rows, and was more"
                    raise data_error(place, what, hint=SAME_HINT)
                yield rows[number % MOST_ROWS]

    def fingerprint(self) -> str:
        """That of the source, with the function's."""
        digest = blake2b(f"{self._identity}:{self._source.fingerprint()}".encode(), digest_size=16)
        return f"transformed:{digest.hexdigest()}"

    def _rows(self, record: Record) -> list[Record]:
        place, before = (record.file, record.line), encoded(record.columns)
        try:
            rows = self._transform(record.columns)
        except DataError as error:
            raise data_error(place, error.message, text=record.raw, hint=error.hint) from None
        if len(rows) > MOST_ROWS:
            raise data_error(place, f"the record becomes more than {MOST_ROWS:,} rows")
        first = record.number << ROWS_BITS
        texts = map(encoded, rows)
        return [
            # One that is left as it is keeps the very bytes of its record.
            Record(first | at, record.raw if text == before else text, row, *place)
            for at, (row, text) in enumerate(zip(rows, texts, strict=True))
        ]


def _record_of(number: int) -> int:
    return number >> ROWS_BITS
