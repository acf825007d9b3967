"""The first pass over a source: every record is read and checked before the first request."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from gptflow.data.excerpt import data_error
from gptflow.data.key import identity_in, ledger_key
from gptflow.data.record import Record
from gptflow.data.selection import Selection, sample_rank
from gptflow.errors import DataError
from gptflow.records import Columns
from gptflow.spec.model import Sample

Entry = tuple[int, int, bytes]
"""A row for the ledger: position among the selected rows, record number, ledger key."""


class Records(Protocol):
    """What a survey needs of a source."""

    def records(self) -> Iterator[Record]:
        """The records, each with its number."""
        ...


class Survey:
    """One pass over a source, to be walked once by `batches`; the counts grow as it goes.

    Memory does not grow with the rows; for a sample, with its size.
    """

    def __init__(
        self, source: Records, selection: Selection, rows: int = 0, columns: Sequence[str] = ()
    ) -> None:
        """`rows`: how many come before those of the source; `columns`: what these have."""
        self.read = 0
        """Records read. With a limit, reading stops where it is reached."""
        self.selected = rows
        """Rows given so far, and those before them."""
        self._columns = dict.fromkeys(columns)
        self._source = source
        self._selection = selection

    @property
    def columns(self) -> list[str]:
        """The columns of all selected rows, in the order they were first seen."""
        return list(self._columns)

    def batches(self, size: int = 10_000) -> Iterator[list[Entry]]:
        """The selected rows in the order of the source, in lists of up to `size`.

        Raises:
            DataError: a record is broken, or lacks an id column.
        """
        rows = self._sampled(self._selection.sample) if self._selection.sample else self._taken()
        while batch := [
            (position, number, key)
            for position, (number, key) in enumerate(islice(rows, size), self.selected)
        ]:
            self.selected += len(batch)
            yield batch

    def _taken(self) -> Iterator[tuple[int, bytes]]:
        columns = self._columns
        id_columns = self._selection.id_columns
        for record in self._candidates():
            if not record.columns.keys() <= columns.keys():
                columns.update(dict.fromkeys(record.columns))
            yield record.number, ledger_key(record, id_columns)

    def _sampled(self, sample: Sample) -> Iterator[tuple[int, bytes]]:
        id_columns = self._selection.id_columns

        def ranked(record: Record) -> tuple[bytes, int, bytes, tuple[str, ...]]:
            key = ledger_key(record, id_columns)
            rank = sample_rank(sample.seed, identity_in(key, id_columns))
            # The number settles ties, and keeps the comparison away from what follows it.
            return rank, record.number, key, tuple(record.columns)

        drawn = heapq.nsmallest(sample.n, map(ranked, self._candidates()))
        for _, number, key, names in sorted(drawn, key=lambda row: row[1]):
            self._columns.update(dict.fromkeys(names))
            yield number, key

    def _candidates(self) -> Iterator[Record]:
        return islice(self._let_through(), self._selection.limit)

    def _let_through(self) -> Iterator[Record]:
        where = self._selection.where
        for record in self._source.records():
            self.read = record.number + 1
            if where is None or _holds(where, record):
                yield record


def _holds(where: Callable[[Columns], bool], record: Record) -> bool:
    try:
        return where(record.columns)
    except DataError as error:
        place = (record.file, record.line)
        raise data_error(place, error.message, text=record.raw, hint=error.hint) from None
