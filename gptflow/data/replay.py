"""The second pass over a source: the rows that the run still wants, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from gptflow.data.key import identity_in, ledger_key
from gptflow.data.record import Record
from gptflow.data.sources.source import Source
from gptflow.data.transform import SAME_HINT, TransformedSource
from gptflow.errors import DataError
from gptflow.records import Row

SOURCE_HINT = "run the same command again: it reads the source anew and keeps what is still good"

Wanted = tuple[int, int, bytes, int]
"""A row of the ledger: position, record number, ledger key, ordinal."""


def replay(
    source: Source, wanted: Iterable[Wanted], id_columns: Sequence[str] = ()
) -> Iterator[Row]:
    """The wanted rows, read from the source again.

    Args:
        source: The source as it was surveyed.
        wanted: In the order of their record numbers. Read lazily, one ahead of what is given.
        id_columns: As in the survey.

    Raises:
        DataError: a row is not the one that was surveyed: the source has changed.
    """
    hint = SAME_HINT if isinstance(source, TransformedSource) else SOURCE_HINT
    asked: deque[Wanted] = deque()  # it is one entry ahead of the records at most

    def ahead() -> Iterator[int]:
        for entry in wanted:
            asked.append(entry)
            yield entry[1]

    for record in _as_surveyed(source.records(only=ahead()), hint):
        position, number, key, ordinal = asked.popleft()
        if not _is_same(record, id_columns, key):
            raise _changed(f"{record.file}:{record.line} is another row", hint)
        identity = identity_in(key, id_columns)
        yield Row(position, number, identity, ordinal, record.raw, record.columns)
    if asked:
        raise _changed("it has fewer records", hint)


def _is_same(record: Record, id_columns: Sequence[str], key: bytes) -> bool:
    try:
        return ledger_key(record, id_columns) == key
    except DataError:  # it has lost an id column
        return False


def _as_surveyed(records: Iterator[Record], hint: str) -> Iterator[Record]:
    """The records; what is broken now was not when the run began."""
    try:
        yield from records
    except DataError as error:
        raise _changed(error.message, hint) from None


def _changed(how: str, hint: str) -> DataError:
    return DataError(f"the source changed since the run began: {how}", hint=hint)
