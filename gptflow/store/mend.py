"""What must fit together in a store: looked for in a doubtful one, brought about in a saved one."""

from __future__ import annotations

import sqlite3
from typing import Any

from gptflow.store.ledger import LedgerDigest, chunks, stretch_of
from gptflow.store.record import POSITION_BITS, RunRecord, RunStatus, position_of
from gptflow.store.run import read_run

_RESULTS = """
    SELECT row_id FROM results UNION ALL
    SELECT row_id FROM reused WHERE result_id IN (SELECT row_id FROM results)
"""
"""The rows that something became of, here or in the run that they were taken over from."""

_MISFITS = {
    "rows that have ended without a result": f"""
        SELECT count(*) FROM ledger WHERE status != 0 AND row_id NOT IN ({_RESULTS})""",  # noqa: S608
    "rows that are pending with a result": f"""
        SELECT count(*) FROM ledger WHERE status = 0 AND row_id IN ({_RESULTS})""",  # noqa: S608
    "rows that are done and failed at once": """
        SELECT count(*) FROM ledger JOIN results USING (row_id)
        WHERE (status = 2) != (failure IS NOT NULL)""",
    "results of no row": """
        SELECT count(*) FROM results WHERE row_id NOT IN (SELECT row_id FROM ledger)
          AND row_id >> :bits IN (SELECT run_id FROM runs WHERE rows > 0)""",
    "replies of no run": """
        SELECT count(*) FROM calls WHERE run_id NOT IN (SELECT run_id FROM runs)""",
}

_REOPEN = f"UPDATE ledger SET status = 0 WHERE status != 0 AND row_id NOT IN ({_RESULTS})"  # noqa: S608
_MEND = (
    """DELETE FROM reused WHERE result_id NOT IN (SELECT row_id FROM results)
        OR row_id NOT IN (SELECT row_id FROM ledger WHERE status != 0)""",
    f"""DELETE FROM results WHERE row_id IN (SELECT row_id FROM ledger WHERE status = 0)
        OR (row_id NOT IN (SELECT row_id FROM ledger)
            AND row_id >> {POSITION_BITS} IN (SELECT run_id FROM runs WHERE rows > 0))""",  # noqa: S608
    "DELETE FROM reused WHERE result_id NOT IN (SELECT row_id FROM results)",
    """UPDATE ledger SET status = iif(failure IS NULL, 1, 2)
        FROM results WHERE results.row_id = ledger.row_id""",
)

_LOST_RUN = """
    INSERT INTO runs (run_id, name, status, plan_digest, source_fingerprint, spec, spec_file,
                      server, fresh, since_run, output, fields, version, started_at, stop_reason)
    VALUES (?, '', 'interrupted', '', '', '', '', '', 0, 0, '', '[]', '', 0, 'lost')
"""
_EMPTIED = "its rows were lost: a new run asks only what has no reply"


def misfits(connection: sqlite3.Connection) -> list[str]:
    """What does not fit together, in words with numbers; nothing in a healthy store."""
    found = []
    for what, statement in _MISFITS.items():
        (count,) = connection.execute(statement, {"bits": POSITION_BITS}).fetchone()
        if count:
            found.append(f"{what}: {count:,}")
    for (run_id,) in connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall():
        run = _run(connection, run_id)
        if run is None:
            found.append(f"run {run_id} cannot be read")
        elif not _has_its_rows(connection, run):
            found.append(f"the rows of run {run_id} are not those that it began with")
    return found


def mend(connection: sqlite3.Connection) -> int:
    """Make what was saved fit together; how many rows the runs have lost.

    A row without its result is pending again. A run without all of its rows keeps its replies
    alone: it is never gone on with, and the next one finds them call by call.
    """
    lost = 0
    known = """SELECT run_id FROM calls UNION SELECT DISTINCT row_id >> ? FROM ledger
               EXCEPT SELECT run_id FROM runs"""
    for (run_id,) in connection.execute(known, (POSITION_BITS,)).fetchall():
        connection.execute(_LOST_RUN, (run_id,))
    for (run_id,) in connection.execute("SELECT run_id FROM runs").fetchall():
        lost += _mend_run(connection, run_id)
    for statement in _MEND:
        connection.execute(statement)
    lost += connection.execute(_REOPEN).rowcount
    connection.execute(
        f"""UPDATE runs SET status = 'interrupted', output_digest = ''
            WHERE status IN ('finished', 'running') AND EXISTS (
                SELECT 1 FROM ledger WHERE status = 0
                  AND row_id >= run_id << {POSITION_BITS}
                  AND row_id < (run_id + 1) << {POSITION_BITS})"""  # noqa: S608  # a number
    )
    return lost


def _mend_run(connection: sqlite3.Connection, run_id: int) -> int:
    """Empty a run whose rows are not all there; how many it had."""
    run = _run(connection, run_id)
    if run is None:
        connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
        connection.execute(_LOST_RUN, (run_id,))
    elif _has_its_rows(connection, run):
        return 0
    connection.execute("DELETE FROM ledger WHERE row_id >= ? AND row_id < ?", stretch_of(run_id))
    connection.execute("DELETE FROM proofs WHERE run_id = ?", (run_id,))
    connection.execute(
        """UPDATE runs SET rows = 0, plan_digest = '', source_fingerprint = '', ledger_digest = '',
               output_digest = '', status = 'interrupted', stop_reason = ? WHERE run_id = ?""",
        (_EMPTIED, run_id),
    )
    return 0 if run is None else run.rows


def _run(connection: sqlite3.Connection, run_id: int) -> RunRecord | None:
    """The run, if all that is written of it can be read."""
    try:
        return read_run(connection, run_id)
    except (ValueError, TypeError):  # msgspec's errors are ValueErrors
        return None


def _has_its_rows(connection: sqlite3.Connection, run: RunRecord) -> bool:
    """Whether the ledger of a run is the one that it began with."""
    if run.status is RunStatus.PREPARING or not run.ledger_digest:
        return True
    rows: Any = connection.execute(
        "SELECT row_id, record, row_key FROM ledger WHERE row_id >= ? AND row_id < ?"
        " ORDER BY row_id",
        stretch_of(run.run_id),
    )
    digest = LedgerDigest()
    try:
        for chunk in chunks((position_of(number), record, key) for number, record, key in rows):
            if chunk[0][0] != digest.rows or chunk[-1][0] != digest.rows + len(chunk) - 1:
                return False
            digest.add(chunk)
    except (TypeError, OverflowError):  # a key that is no bytes, a record below 0
        return False
    return digest.hexdigest() == run.ledger_digest and digest.rows == run.rows
