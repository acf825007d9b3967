"""The rows of a run: written at its beginning, made pending again, taken over from earlier runs."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice

import msgspec

from gptflow.records import Failure
from gptflow.store.record import KEY_BYTES, LedgerRow, row_id

CHUNK = 10_000
"""Rows of one transaction: large enough to amortise its fsync, small enough to stay in memory."""

_decode_failure = msgspec.json.Decoder(Failure).decode

Stretch = tuple[int, int]
"""Row numbers of a run or a part of it: the first, and the one after the last."""


class LedgerDigest:
    """A hash over row keys and record numbers in their order, and the number of rows."""

    def __init__(self) -> None:
        self.rows = 0
        self._keys = blake2b(digest_size=16)
        self._records = blake2b(digest_size=16)

    def add(self, chunk: Sequence[LedgerRow]) -> None:
        """Add the rows that follow. How rows are cut into chunks makes no difference."""
        first, last = chunk[0][0], chunk[-1][0]
        assert (first, last) == (self.rows, self.rows + len(chunk) - 1), "positions have no gaps"
        self.rows += len(chunk)
        self._keys.update(b"".join([key for _, _, key in chunk]))
        self._records.update(array("Q", [record for _, record, _ in chunk]))

    def hexdigest(self) -> str:
        """The hash of all that has been added."""
        return blake2b(self._keys.digest() + self._records.digest(), digest_size=16).hexdigest()


def chunks(rows: Iterable[LedgerRow], size: int = CHUNK) -> Iterator[list[LedgerRow]]:
    """The rows in lists of at most `size`."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


def stretch_of(run_id: int) -> Stretch:
    """The row numbers of a run."""
    return row_id(run_id, 0), row_id(run_id + 1, 0)


def insert_rows(connection: sqlite3.Connection, run_id: int, chunk: Sequence[LedgerRow]) -> None:
    """Append rows to the ledger, all pending."""
    first = row_id(run_id, 0)
    connection.executemany(
        "INSERT INTO ledger (row_id, record, row_key) VALUES (?, ?, ?)",
        ((first | position, record, row_key) for position, record, row_key in chunk),
    )


def number_duplicates(connection: sqlite3.Connection, run_id: int, start: int = 0) -> None:
    """Set the ordinals of rows from position `start` on whose key occurs before them.

    All others keep theirs. The keys are sorted on disk: a set of them would take 100 MB for a
    million rows.
    """
    later = "AND row_key IN (SELECT row_key FROM ledger WHERE row_id >= :start AND row_id < :end)"
    connection.execute(
        f"""
        UPDATE ledger SET ordinal = twins.ordinal
        FROM (SELECT row_id,
                     row_number() OVER (PARTITION BY row_key ORDER BY row_id) - 1 AS ordinal
              FROM ledger
              WHERE row_id >= :first AND row_id < :end
                AND row_key IN (SELECT row_key FROM ledger
                                WHERE row_id >= :first AND row_id < :end {later if start else ""}
                                GROUP BY row_key HAVING count(*) > 1)) AS twins
        WHERE ledger.row_id = twins.row_id AND twins.ordinal > 0
        """,  # noqa: S608  # one of two fixed texts
        {**_bounds(run_id), "start": row_id(run_id, start)},
    )


def delete_rows(connection: sqlite3.Connection, run_id: int) -> None:
    """Remove the rows of a run and their results. Its calls stay: they are paid."""
    connection.execute("DELETE FROM ledger WHERE row_id >= ? AND row_id < ?", stretch_of(run_id))
    connection.execute("DELETE FROM results WHERE row_id >= ? AND row_id < ?", stretch_of(run_id))
    connection.execute("DELETE FROM reused WHERE row_id >= ? AND row_id < ?", stretch_of(run_id))


def reopen_failed(connection: sqlite3.Connection, run_id: int) -> int:
    """Make failed rows pending, and the replies that failed them stale; how many rows."""
    _mark_stale(
        connection,
        run_id,
        """SELECT row_id, failure, calls FROM ledger JOIN results USING (row_id)
           WHERE status = 2 AND row_id >= ? AND row_id < ? ORDER BY row_id LIMIT 1000""",
    )
    connection.execute(
        """DELETE FROM results WHERE row_id IN (
               SELECT row_id FROM ledger
               WHERE status = 2 AND row_id >= :first AND row_id < :end)""",
        _bounds(run_id),
    )
    return connection.execute(
        "UPDATE ledger SET status = 0 WHERE status = 2 AND row_id >= :first AND row_id < :end",
        _bounds(run_id),
    ).rowcount


def reopen_truncated(connection: sqlite3.Connection, run_id: int) -> int:
    """Make rows with a reply that was cut off pending, and those replies stale; how many rows."""
    _mark_stale(
        connection,
        run_id,
        """SELECT row_id, NULL, calls FROM outcomes
           WHERE truncated AND row_id >= ? AND row_id < ? ORDER BY row_id LIMIT 1000""",
    )
    reopened = connection.execute(
        """UPDATE ledger SET status = 0 WHERE row_id IN (
               SELECT row_id FROM outcomes
               WHERE truncated AND row_id >= :first AND row_id < :end)""",
        _bounds(run_id),
    ).rowcount
    # The result of a row that was taken over belongs to the run that has asked it, and stays.
    connection.execute(
        """DELETE FROM reused WHERE row_id >= :first AND row_id < :end
           AND result_id IN (SELECT row_id FROM results WHERE truncated)""",
        _bounds(run_id),
    )
    connection.execute(
        "DELETE FROM results WHERE truncated AND row_id >= :first AND row_id < :end",
        _bounds(run_id),
    )
    return reopened


def put_back(connection: sqlite3.Connection, run_id: int, positions: Iterable[int]) -> None:
    """Make these rows pending again, and remove their results."""
    numbers = [(row_id(run_id, position),) for position in positions]
    connection.executemany("UPDATE ledger SET status = 0 WHERE row_id = ?", numbers)
    connection.executemany("DELETE FROM results WHERE row_id = ?", numbers)


_MARK_STALE = """
    UPDATE calls SET stale = 1
    WHERE call_key = ?1 AND NOT stale
      AND (NOT ?2 OR finish_reason = 'length')
      AND run_id IN (SELECT run_id FROM runs
                     WHERE server = (SELECT server FROM runs WHERE run_id = ?3))
"""


def _mark_stale(connection: sqlite3.Connection, run_id: int, rows: str) -> None:
    """Mark calls of the rows that the query `rows` pages through stale.

    With a failure these are the last ones, which led to it; without one those that were cut off.
    Another server's replies under the same call key are left alone.
    """
    first, end = stretch_of(run_id)
    while page := connection.execute(rows, (first, end)).fetchall():
        connection.executemany(
            _MARK_STALE,
            (
                (key, failure is None, run_id)
                for _, failure, keys in page
                for key in _replies_to_replace(failure, split_keys(keys))
            ),
        )
        first = page[-1][0] + 1


def _replies_to_replace(failure: bytes | None, keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if failure is None:
        return keys
    return keys[len(keys) - _decode_failure(failure).replies :]


def split_keys(joined: bytes) -> tuple[bytes, ...]:
    """The keys that stand one after the other in `joined`."""
    return tuple(joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES))


def _bounds(run_id: int) -> dict[str, int]:
    first, end = stretch_of(run_id)
    return {"first": first, "end": end}
