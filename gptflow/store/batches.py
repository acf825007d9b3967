"""Batches of calls that are with a provider: what is written of each from its file to its end."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from gptflow.records import Usage
from gptflow.store.connection import DATABASE_ERRORS, connect_reader, store_error
from gptflow.store.writer import Write, Writer

T = TypeVar("T")


class BatchStatus(StrEnum):
    """How far a batch has come. Each is on the disk before the next step is taken."""

    WRITTEN = "written"
    """Its file is written, and no key has been chosen."""
    UPLOADING = "uploading"
    """Its file may be at the provider, and no batch is."""
    SUBMITTING = "submitting"
    """Its file is at the provider, and the batch may be."""
    RUNNING = "running"
    """It is at the provider, by its `remote_id`."""
    ENDED = "ended"
    """All that came of it is stored."""
    LOST = "lost"
    """It was given up: its calls are asked anew."""


_OPEN = (
    BatchStatus.WRITTEN,
    BatchStatus.UPLOADING,
    BatchStatus.SUBMITTING,
    BatchStatus.RUNNING,
)


class BatchCall(NamedTuple):
    """One line of a batch."""

    call_key: bytes
    step: str
    tokens: int
    """Of its prompt, estimated."""


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as the store knows it."""

    batch_id: int
    run_id: int
    token: str
    """Our own name for it, which the provider keeps in its metadata."""
    status: BatchStatus
    model: str
    endpoint: str
    calls: int
    tokens: int
    """Of its prompts, estimated."""
    size_bytes: int
    digest: str
    key_name: str = ""
    account: str = ""
    file_id: str = ""
    remote_id: str = ""
    tries: int = 0
    changed_at: float = 0.0
    """Seconds since 1970."""


class BatchDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a batch once its file is written."""

    run_id: int
    token: str
    model: str
    endpoint: str
    calls: int
    tokens: int
    size_bytes: int
    digest: str


class BatchChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be changed of a batch; None leaves a value as it is."""

    status: BatchStatus | None = None
    key_name: str | None = None
    account: str | None = None
    file_id: str | None = None
    remote_id: str | None = None
    tries: int | None = None


class StoredFault(NamedTuple):
    """What a call came back with in place of a reply."""

    key_name: str
    verdict: bytes
    """As JSON."""


class Batches:
    """The batches of a store. Writing waits for the disk: call it from a thread of its own.

    Raises StoreError where the store cannot be read or written.
    """

    def __init__(self, path: Path, writer: Writer, clock: Callable[[], float]) -> None:
        self._path = path
        self._writer = writer
        self._clock = clock
        self._reader = connect_reader(path)

    def close(self) -> None:
        """End the connection that reads."""
        self._reader.close()

    def begin(self, draft: BatchDraft, calls: Sequence[BatchCall]) -> BatchRecord:
        """Write a batch down with its calls, in the order of its file. They are on their way."""
        return self._writer.call(partial(_insert, draft=draft, calls=calls, now=self._clock()))

    def change(self, batch_id: int, change: BatchChange) -> BatchRecord:
        """Change a batch, and give it as it is then."""
        return self._writer.call(
            partial(_change, batch_id=batch_id, change=change, now=self._clock())
        )

    def end(
        self,
        batch: BatchRecord,
        verdict: bytes | None,
        faults: Sequence[tuple[bytes, bytes | None]] = (),
    ) -> None:
        """All that came of a batch is stored: the calls that are left have this verdict, if any.

        Without a verdict they are asked again as if they had not been asked. `faults` are added
        before, as `add_faults` does.
        """

        def write(connection: sqlite3.Connection) -> None:
            _add_faults(connection, batch=batch, verdicts=list(faults))
            _end(connection, batch=batch, status=BatchStatus.ENDED, verdict=verdict)

        self._writer.call(write)

    def give_up(self, batch: BatchRecord) -> None:
        """A batch is lost, or was never sent: its calls are no longer on their way."""
        self._writer.call(partial(_end, batch=batch, status=BatchStatus.LOST, verdict=None))

    def add_faults(
        self, batch: BatchRecord, verdicts: Iterable[tuple[bytes, bytes | None]]
    ) -> None:
        """Call keys that came back without a reply, with their verdicts; None: not charged."""
        self._writer.call(partial(_add_faults, batch=batch, verdicts=list(verdicts)))

    def forget_faults(self, run_id: int, *, also_on_the_way: bool = False) -> None:
        """Forget what calls of a run have failed with that are not on their way again."""
        kept = "" if also_on_the_way else " AND call_key NOT IN (SELECT call_key FROM batch_calls)"
        statement = f"DELETE FROM batch_faults WHERE run_id = ?{kept}"  # noqa: S608  # fixed texts
        self._writer.call(lambda db: db.execute(statement, (run_id,)).rowcount)

    def arrival(
        self,
        batch: BatchRecord,
        call_key: bytes,
        usage: Usage,
        estimated: Usage | None = None,
        fault: bytes | None = None,
    ) -> tuple[Write, ...]:
        """What is to be written along with a reply that came in a batch: its line has ended.

        `usage` and `estimated` are the tokens told and untold, `fault` the verdict on a reply that
        is of no use.
        """
        estimated = estimated or Usage()
        count = (
            max(usage.prompt_tokens or 0, 0) + (estimated.prompt_tokens or 0),
            max(usage.completion_tokens or 0, 0) + (estimated.completion_tokens or 0),
            max(usage.cached_tokens or 0, 0),
        )
        writes: list[Write] = [
            (_TAKE_LINE, (batch.batch_id, call_key)),
            (_ADD_DISCOUNTED, (batch.run_id, batch.model, *count)),
        ]
        if fault is not None:
            writes.append((_ADD_FAULT, (batch.run_id, call_key, batch.key_name, fault)))
        return tuple(writes)

    def open(self, server: str) -> list[BatchRecord]:
        """The batches of all runs of a server that have not ended, the oldest first."""
        marks = ", ".join("?" * len(_OPEN))
        rows = self._all(
            f"""SELECT batches.* FROM batches JOIN runs USING (run_id)
                WHERE server = ? AND batches.status IN ({marks}) ORDER BY batch_id""",  # noqa: S608
            server,
            *_OPEN,
        )
        return [_record(row) for row in rows]

    def way_of(self, call_key: bytes) -> list[int]:
        """The numbers of the batches that a call is on its way in."""
        rows = self._all("SELECT batch_id FROM batch_calls WHERE call_key = ?", call_key)
        return [batch_id for (batch_id,) in rows]

    def lines(self, batch_id: int, call_keys: Sequence[bytes]) -> dict[bytes, BatchCall]:
        """The calls of a batch with these keys, as far as they are still on their way."""
        marks = ", ".join("?" * len(call_keys))
        rows = self._all(
            f"""SELECT call_key, step, tokens FROM batch_calls
                WHERE batch_id = ? AND call_key IN ({marks})""",  # noqa: S608
            batch_id,
            *call_keys,
        )
        return {row[0]: BatchCall(*row) for row in rows}

    def line_keys(self, batch_id: int) -> list[bytes]:
        """The keys of a batch's calls in the order of its file, as far as they are on their way."""
        rows = self._all(
            "SELECT call_key FROM batch_calls WHERE batch_id = ? ORDER BY line_id", batch_id
        )
        return [call_key for (call_key,) in rows]

    def left(self, batch_id: int) -> int:
        """How many calls of a batch are still on their way."""
        ((left,),) = self._all("SELECT count(*) FROM batch_calls WHERE batch_id = ?", batch_id)
        return int(left)

    def has_faults(self, run_id: int) -> bool:
        """Whether any call of a run has come back without a reply."""
        return bool(self._all("SELECT 1 FROM batch_faults WHERE run_id = ? LIMIT 1", run_id))

    def faults(self, run_id: int, call_key: bytes) -> list[StoredFault]:
        """What a call has come back with in this run, in its order."""
        rows = self._all(
            """SELECT key_name, verdict FROM batch_faults
               WHERE call_key = ? AND run_id = ? ORDER BY fault_id""",
            call_key,
            run_id,
        )
        return [StoredFault(*row) for row in rows]

    def discounted(self, run_id: int) -> Mapping[str, Usage]:
        """The tokens of a run that were had at the price of a batch, by model."""
        rows = self._all(
            """SELECT model, prompt_tokens, completion_tokens, cached_tokens
               FROM discounted WHERE run_id = ?""",
            run_id,
        )
        return {model: Usage(*tokens) for model, *tokens in rows}

    def _all(self, statement: str, *parameters: Any) -> list[Any]:
        try:
            return self._reader.execute(statement, parameters).fetchall()
        except DATABASE_ERRORS as error:
            raise store_error(self._path, error) from error


_TAKE_LINE = "DELETE FROM batch_calls WHERE batch_id = ? AND call_key = ?"
_ADD_DISCOUNTED = """
INSERT INTO discounted VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_id, model) DO UPDATE SET
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens
"""
_ADD_FAULT = "INSERT INTO batch_faults (run_id, call_key, key_name, verdict) VALUES (?, ?, ?, ?)"


def _record(row: Sequence[Any]) -> BatchRecord:
    """A row of `batches`, whose columns are the fields of a record in their order."""
    values = dict(zip(BatchRecord.__struct_fields__, row, strict=True))
    return msgspec.convert(values, BatchRecord)


def _read(connection: sqlite3.Connection, batch_id: int) -> BatchRecord:
    found = connection.execute("SELECT * FROM batches WHERE batch_id = ?", (batch_id,))
    return _record(found.fetchone())


def _insert(
    connection: sqlite3.Connection, *, draft: BatchDraft, calls: Sequence[BatchCall], now: float
) -> BatchRecord:
    batch_id = connection.execute(
        """INSERT INTO batches (run_id, token, status, model, endpoint, calls, tokens, size_bytes,
                                digest, changed_at)
           VALUES (:run_id, :token, 'written', :model, :endpoint, :calls, :tokens, :size_bytes,
                   :digest, :now)""",
        {**msgspec.structs.asdict(draft), "now": now},
    ).lastrowid
    assert batch_id is not None
    connection.executemany(
        "INSERT INTO batch_calls (batch_id, call_key, step, tokens) VALUES (?, ?, ?, ?)",
        ((batch_id, *call) for call in calls),
    )
    return _read(connection, batch_id)


def _change(
    connection: sqlite3.Connection, *, batch_id: int, change: BatchChange, now: float
) -> BatchRecord:
    connection.execute(
        """UPDATE batches SET
               status = coalesce(:status, status),
               key_name = coalesce(:key_name, key_name),
               account = coalesce(:account, account),
               file_id = coalesce(:file_id, file_id),
               remote_id = coalesce(:remote_id, remote_id),
               tries = coalesce(:tries, tries),
               changed_at = :now
           WHERE batch_id = :batch_id""",
        {**msgspec.structs.asdict(change), "now": now, "batch_id": batch_id},
    )
    return _read(connection, batch_id)


def _end(
    connection: sqlite3.Connection,
    *,
    batch: BatchRecord,
    status: BatchStatus,
    verdict: bytes | None,
) -> None:
    if verdict is not None:
        connection.execute(
            """INSERT INTO batch_faults (run_id, call_key, key_name, verdict)
               SELECT ?, call_key, ?, ? FROM batch_calls WHERE batch_id = ? ORDER BY line_id""",
            (batch.run_id, batch.key_name, verdict, batch.batch_id),
        )
    connection.execute("DELETE FROM batch_calls WHERE batch_id = ?", (batch.batch_id,))
    connection.execute("UPDATE batches SET status = ? WHERE batch_id = ?", (status, batch.batch_id))


def _add_faults(
    connection: sqlite3.Connection,
    *,
    batch: BatchRecord,
    verdicts: list[tuple[bytes, bytes | None]],
) -> None:
    connection.executemany(
        _ADD_FAULT,
        (
            (batch.run_id, call_key, batch.key_name, verdict)
            for call_key, verdict in verdicts
            if verdict is not None
        ),
    )
    connection.executemany(_TAKE_LINE, ((batch.batch_id, key) for key, _ in verdicts))
