"""Reading a store, from any process and while it is being written."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from gptflow.records import Failure, FailureKind, RowResult, RowStatus, Usage
from gptflow.store.connection import connect_reader, store_damage, store_error
from gptflow.store.ledger import split_keys, stretch_of
from gptflow.store.migration import require_current
from gptflow.store.record import (
    KEY_BYTES,
    POSITION_BITS,
    DuplicateKey,
    FailureGroup,
    LedgerRow,
    ModelUsage,
    PendingRow,
    RowCounts,
    RunRecord,
    position_of,
    row_id,
)
from gptflow.store.run import run_records
from gptflow.store.sound import is_object

T = TypeVar("T")

_QUOTED = re.compile(r'"[^"]*"')
_NUMBER = re.compile(r"\d+")
PENDING_PAGE = 2000
RESULT_PAGE = 200
RESULT_PAGE_BYTES = 1 << 23
"""A page of results ends behind the row that brings it over this: a row may be megabytes."""
FAILURE_GROUPS = 100
"""More kinds of failure than this are counted together, so that odd messages fill no memory."""

_decode_failure = msgspec.json.Decoder(Failure).decode


class StoreReader:
    """A view of one store. Each call sees all that was committed before it, and waits for nobody.

    Iterators read page by page, each page a moment of its own: no transaction stays open, so that
    the writer's log does not grow behind a slow consumer.

    A reader belongs to the thread that made it. Raises StoreError if there is no store to read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = connect_reader(path)
        with ExitStack() as undo:
            undo.callback(self._connection.close)
            self._guard(require_current)
            undo.pop_all()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def runs(self) -> list[RunRecord]:
        """All runs, the oldest first."""
        return self._runs("SELECT * FROM runs ORDER BY run_id")

    def run(self, run_id: int) -> RunRecord | None:
        """The run with that number."""
        return next(iter(self._runs("SELECT * FROM runs WHERE run_id = ?", run_id)), None)

    def latest_run(self, server: str | None = None) -> RunRecord | None:
        """The youngest run of a server, or of any, whose ledger is whole."""
        statement = """SELECT * FROM runs
            WHERE status != 'preparing' AND server = coalesce(?, server)
            ORDER BY run_id DESC LIMIT 1"""
        return next(iter(self._runs(statement, server)), None)

    def counts(self, run_id: int) -> RowCounts:
        """How many rows of the run are pending, done and failed. Goes through its ledger."""
        first, end = stretch_of(run_id)
        ((rows, pending, failed),) = self._all(
            """SELECT
                (SELECT rows FROM runs WHERE run_id = ?1 AND status != 'preparing'),
                (SELECT count(*) FROM ledger WHERE status = 0 AND row_id >= ?2 AND row_id < ?3),
                (SELECT count(*) FROM ledger WHERE status = 2 AND row_id >= ?2 AND row_id < ?3)""",
            run_id,
            first,
            end,
        )
        # The rows of a run are counted when its ledger is whole; before that none is done.
        done = 0 if rows is None else rows - pending - failed
        return RowCounts(pending, done, failed)

    def usage(self, run_id: int) -> list[ModelUsage]:
        """What the run asked and paid itself, by model; what it reused is in no sum."""
        rows = self._all(
            """SELECT model, calls, prompt_tokens, completion_tokens, cached_tokens
               FROM usage WHERE run_id = ? ORDER BY model""",
            run_id,
        )
        return [ModelUsage(*row) for row in rows]

    def estimates(self, run_id: int) -> dict[str, Usage]:
        """The tokens that no server told of what the run paid, estimated, by model.

        A store that was damaged and saved has lost them.
        """
        rows = self._all(
            "SELECT model, prompt_tokens, completion_tokens FROM estimates WHERE run_id = ?", run_id
        )
        return {model: Usage(prompt, completion) for model, prompt, completion in rows}

    def has_replies(self) -> bool:
        """Whether any reply is stored: if not, there is no use in looking one up."""
        return bool(self._all("SELECT 1 FROM calls LIMIT 1"))

    def call_keys(self, after: bytes, limit: int) -> list[bytes]:
        """At most `limit` keys of calls that have a reply, in their order, from behind `after`."""
        statement = "SELECT call_key FROM calls WHERE call_key > ? ORDER BY call_key LIMIT ?"
        return [key for (key,) in self._all(statement, after, limit)]

    def find_reply(self, call_key: bytes, server: str = "", since_run: int = 0) -> bytes | None:
        """The body of the newest reply of that server to the call, or None.

        Replies that are stale, or that came in a run before `since_run`, do not count.
        """
        rows = self._all(
            """SELECT body FROM calls JOIN runs USING (run_id)
               WHERE call_key = ? AND NOT stale AND run_id >= ? AND server = ?
               ORDER BY call_id DESC LIMIT 1""",
            call_key,
            since_run,
            server,
        )
        return rows[0][0] if rows else None

    def pending(self, run_id: int) -> Iterator[PendingRow]:
        """The run's pending rows, by position. Rows that are finished meanwhile may be left out."""
        statement = """SELECT row_id, record, row_key, ordinal FROM ledger
            WHERE status = 0 AND row_id >= ? AND row_id < ? ORDER BY row_id LIMIT ?"""
        for number, record, row_key, ordinal in self._pages(statement, run_id, 0, PENDING_PAGE):
            yield PendingRow(position_of(number), record, row_key, ordinal)

    def ledger(self, run_id: int, start: int, count: int) -> list[LedgerRow]:
        """At most `count` rows of the run's ledger, from position `start` on."""
        return self._all(
            """SELECT row_id - ?1, record, row_key FROM ledger
               WHERE row_id >= ?2 AND row_id < ?3 ORDER BY row_id""",
            row_id(run_id, 0),
            row_id(run_id, start),
            row_id(run_id, start + count),
        )

    def source_proof(self, run_id: int) -> str:
        """What to know the bytes by that the run's rows were read from; empty if nothing does."""
        rows = self._all("SELECT proof FROM proofs WHERE run_id = ?", run_id)
        return str(rows[0][0]) if rows else ""

    def results(self, run_id: int, start: int = 0) -> Iterator[RowResult]:
        """What has become of the run's rows from position `start`, by position.

        Rows that are pending are left out.
        """
        statement = """SELECT * FROM outcomes
            WHERE row_id >= ? AND row_id < ? ORDER BY row_id LIMIT ?"""
        return map(self._result, self._result_pages(statement, run_id, start))

    def failed(self, run_id: int) -> Iterator[RowResult]:
        """The run's failed rows, by position."""
        statement = """SELECT results.* FROM ledger JOIN results USING (row_id)
            WHERE status = 2 AND row_id >= ? AND row_id < ? ORDER BY row_id LIMIT ?"""
        return map(self._result, self._result_pages(statement, run_id, 0))

    def finished_prefix(self, run_id: int, start: int, limit: int) -> list[RowResult]:
        """At most `limit` rows from position `start` on, up to the first that is pending.

        This is what an output in input order can be continued with. Of large rows there are fewer
        at a time; there is none only if the row at `start` is pending, or there is no such row.
        """
        window = (row_id(run_id, start), row_id(run_id, start + limit))
        rows = self._page(
            """SELECT * FROM outcomes WHERE row_id >= ?1 AND row_id < coalesce(
                    (SELECT min(row_id) FROM ledger
                     WHERE status = 0 AND row_id >= ?1 AND row_id < ?2), ?2)
                ORDER BY row_id""",
            *window,
        )
        return [self._result(row) for row in rows]

    def failures(self, run_id: int) -> list[FailureGroup]:
        """Why rows of the run failed, the most frequent reason first."""
        groups: dict[tuple[str, str], list[Any]] = {}
        for result in self.failed(run_id):
            assert result.failure is not None
            kind, reason = result.failure.kind.value, _reason(result.failure.message)
            stem = reason if kind == FailureKind.TEMPLATE else _stem(reason)
            like = (kind, _alike(stem))
            if like not in groups and len(groups) >= FAILURE_GROUPS:
                reason = stem = "other reasons"
                like = (kind, stem)
            group = groups.setdefault(like, [kind, reason, 0])
            group[2] += 1
            if _alike(group[1]) != _alike(reason):
                group[1] = _stem(group[1])
        by_rows = sorted(groups.values(), key=lambda group: -group[2])
        return [FailureGroup(*group) for group in by_rows]

    def duplicate_keys(
        self, run_id: int, limit: int, *, key_bytes: int = KEY_BYTES
    ) -> list[DuplicateKey]:
        """The first `limit` keys that several rows have, each with its first three records.

        `key_bytes`: how many bytes of the keys must be alike.
        """
        first, end = stretch_of(run_id)
        keys = self._all(
            """SELECT substr(row_key, 1, ?3) AS head, count(*) FROM ledger
               WHERE row_id >= ?1 AND row_id < ?2
               GROUP BY head HAVING count(*) > 1 ORDER BY min(row_id) LIMIT ?4""",
            first,
            end,
            key_bytes,
            limit,
        )
        return [DuplicateKey(key, self._records(run_id, key), rows) for key, rows in keys]

    def _records(self, run_id: int, key: bytes) -> tuple[int, ...]:
        """The first three records whose keys begin with `key`."""
        rows = self._all(
            """SELECT record FROM ledger
               WHERE row_id >= ?1 AND row_id < ?2 AND substr(row_key, 1, ?3) = ?4
               ORDER BY row_id LIMIT 3""",
            *stretch_of(run_id),
            len(key),
            key,
        )
        return tuple(record for (record,) in rows)

    def _pages(self, statement: str, run_id: int, start: int, size: int) -> Iterator[Any]:
        """The rows of a query over a stretch, whose first column is the row number."""
        first, end = row_id(run_id, start), stretch_of(run_id)[1]
        while page := self._all(statement, first, end, size):
            yield from page
            first = page[-1][0] + 1

    def _result_pages(self, statement: str, run_id: int, start: int) -> Iterator[Any]:
        """As `_pages`, for queries that give results."""
        first, end = row_id(run_id, start), stretch_of(run_id)[1]
        while page := self._page(statement, first, end, RESULT_PAGE):
            yield from page
            first = page[-1][0] + 1

    def _page(self, statement: str, *parameters: Any) -> list[Any]:
        """The first results that a query gives, up to RESULT_PAGE_BYTES."""
        return self._guard(lambda db, _: _bounded(db.execute(statement, parameters)))

    def _runs(self, statement: str, *parameters: Any) -> list[RunRecord]:
        return self._guard(lambda db, _: run_records(db.execute(statement, parameters)))

    def _all(self, statement: str, *parameters: Any) -> list[Any]:
        return self._guard(lambda db, _: db.execute(statement, parameters).fetchall())

    def _result(self, row: tuple[Any, ...]) -> RowResult:
        number, raw, fields = row[:3]
        if not is_object(raw) or not is_object(fields):
            place = f"row {position_of(number)} of run {number >> POSITION_BITS}"
            raise store_damage(self.path, f"the result of {place} cannot be read")
        try:
            return _row_result(row)
        except (ValueError, TypeError) as error:
            raise store_error(self.path, error) from error

    def _guard(self, read: Callable[[sqlite3.Connection, Path], T]) -> T:
        try:
            return read(self._connection, self.path)
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise store_error(self.path, error) from error


def _bounded(cursor: sqlite3.Cursor) -> list[Any]:
    """Rows of `outcomes`, until they are a page."""
    page: list[Any] = []
    size = 0
    # In a damaged store a row may hold anything: it ends its page, and whoever takes it says so.
    with suppress(TypeError):
        for row in cursor:
            page.append(row)
            size += len(row[1]) + len(row[2])
            if size > RESULT_PAGE_BYTES:
                break
    cursor.close()  # an open query would keep the log from being moved into the file
    return page


def _row_result(row: tuple[Any, ...]) -> RowResult:
    number, raw, fields, failure, calls, truncated = row
    return RowResult(
        position=position_of(number),
        status=RowStatus.DONE if failure is None else RowStatus.FAILED,
        raw=raw,
        fields=fields,
        failure=None if failure is None else _decode_failure(failure),
        calls=split_keys(calls),
        truncated=bool(truncated),
    )


def _reason(message: str) -> str:
    """The first line of a message, quotes shortened."""
    return _QUOTED.sub('"..."', message.partition("\n")[0])


def _stem(reason: str) -> str:
    """What is the same in reasons that differ in details: up to a colon."""
    return reason.split(": ", 1)[0]


def _alike(reason: str) -> str:
    """The same for reasons that differ in numbers alone."""
    return _NUMBER.sub("0", reason)
