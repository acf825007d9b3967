"""The table of runs: what is written of a run from its first moment to its end."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from gptflow.store.ledger import LedgerDigest, delete_rows
from gptflow.store.record import RunDraft, RunRecord, RunStatus, Surveyed

_NO_TIME = 253402300800.0
"""The year 10000, in seconds since 1970: what stands there was not written by a clock."""
_ENDED = (RunStatus.INTERRUPTED, RunStatus.STOPPED, RunStatus.FINISHED)


def run_records(cursor: sqlite3.Cursor) -> list[RunRecord]:
    """The runs that a `SELECT * FROM runs` gives."""
    names = [name for name, *_ in cursor.description]
    return [_run_record(dict(zip(names, row, strict=True))) for row in cursor]


def _run_record(values: dict[str, Any]) -> RunRecord:
    lists = {name: msgspec.json.decode(values[name]) for name in ("fields", "columns")}
    # SQLite has no booleans: `strict` would not take 0 and 1 for them.
    record = msgspec.convert({**values, **lists}, RunRecord, strict=False)
    if not 0 <= record.started_at < _NO_TIME:
        raise ValueError(f"run {record.run_id} began at no time: {record.started_at}")
    return record


def _json(names: Sequence[str]) -> str:
    return msgspec.json.encode(list(names)).decode()


def read_run(connection: sqlite3.Connection, run_id: int) -> RunRecord:
    """The run with that number, which there must be."""
    (run,) = run_records(connection.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)))
    return run


def insert_run(connection: sqlite3.Connection, draft: RunDraft, now: float) -> int:
    """Write a run down as preparing, and give its number."""
    run_id = connection.execute(
        """INSERT INTO runs (name, status, plan_digest, source_fingerprint, spec, spec_file,
                             server, fresh, since_run, output, fields, version, started_at)
           VALUES (:name, 'preparing', :plan_digest, :source_fingerprint, :spec, :spec_file,
                   :server, :fresh, :since_run, :output, :fields, :version, :now)""",
        {**msgspec.structs.asdict(draft), "fields": _json(draft.fields), "now": now},
    ).lastrowid
    assert run_id is not None
    connection.execute("UPDATE runs SET since_run = run_id WHERE run_id = ? AND fresh", (run_id,))
    return run_id


def set_running(
    connection: sqlite3.Connection, run_id: int, digest: LedgerDigest, surveyed: Surveyed
) -> RunRecord:
    """The run's ledger is whole: from now on it counts as a run."""
    connection.execute(
        """UPDATE runs SET status = 'running', ledger_digest = ?, rows = ?, columns = ?
           WHERE run_id = ?""",
        (digest.hexdigest(), digest.rows, _json(surveyed.columns), run_id),
    )
    connection.execute("INSERT OR REPLACE INTO proofs VALUES (?, ?)", (run_id, surveyed.proof))
    return read_run(connection, run_id)


class RunChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be changed of a run; None leaves a value as it is."""

    status: RunStatus | None = None
    """Also sets `ended_at`, and clears `stop_reason` of a run that goes on."""
    stop_reason: str | None = None
    source_fingerprint: str | None = None
    spec: str | None = None
    output: str | None = None
    output_digest: str | None = None


def change_run(
    connection: sqlite3.Connection, run_id: int, change: RunChange, now: float
) -> RunRecord:
    """Change a run, and give it as it is then."""
    ended_at = now if change.status in _ENDED else None
    connection.execute(
        """UPDATE runs SET
               status = coalesce(:status, status),
               ended_at = iif(:status IS NULL, ended_at, :ended_at),
               stop_reason = coalesce(:stop_reason, iif(:status = 'running', '', stop_reason)),
               source_fingerprint = coalesce(:source_fingerprint, source_fingerprint),
               spec = coalesce(:spec, spec),
               output = coalesce(:output, output),
               output_digest = coalesce(:output_digest, output_digest)
           WHERE run_id = :run_id""",
        {**msgspec.structs.asdict(change), "ended_at": ended_at, "run_id": run_id},
    )
    return read_run(connection, run_id)


def delete_run(connection: sqlite3.Connection, run_id: int) -> None:
    """Remove a run and its rows. Its calls stay: they are paid."""
    delete_rows(connection, run_id)
    connection.execute("DELETE FROM proofs WHERE run_id = ?", (run_id,))
    connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))


def tidy_runs(connection: sqlite3.Connection) -> None:
    """Mend what a process has left that ended in the middle of its work; only as the sole writer.

    A half-written ledger is dropped: nothing was asked for it yet.
    """
    preparing = connection.execute("SELECT run_id FROM runs WHERE status = 'preparing'").fetchall()
    for (run_id,) in preparing:
        delete_run(connection, run_id)
    connection.execute("UPDATE runs SET status = 'interrupted' WHERE status = 'running'")
