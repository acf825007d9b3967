"""Rows that an earlier run has done are taken over as they are, without asking or extracting."""

from __future__ import annotations

import sqlite3

from gptflow.store.ledger import stretch_of

EARLIER_RUNS = 5
"""How far to look back. Each run has taken over from those before it, and what is missed here is
found call by call."""


def find_done(connection: sqlite3.Connection, run_id: int) -> int:
    """Collect the pending rows that earlier runs have done in the temporary table `reuse`.

    What the latest earlier run that has the row says, counts: a row that it left pending is not
    taken from a run before it, where it may be what was to be asked again. Gives the first row
    number after the last one that was found.
    """
    connection.execute(
        """CREATE TEMP TABLE wanted (
               row_key BLOB, ordinal INTEGER, row_id INTEGER, PRIMARY KEY (row_key, ordinal)
           ) WITHOUT ROWID"""
    )
    connection.execute(
        """CREATE TEMP TABLE reuse (row_id INTEGER PRIMARY KEY, old_id INTEGER, status INTEGER)"""
    )
    # In the order of the keys, as the look-ups below: pages are then written and read once.
    connection.execute(
        """INSERT INTO wanted SELECT row_key, ordinal, row_id FROM ledger
           WHERE status = 0 AND row_id >= ? AND row_id < ? ORDER BY row_key, ordinal""",
        stretch_of(run_id),
    )
    for earlier in _earlier_runs(connection, run_id):
        connection.execute(
            """INSERT OR IGNORE INTO reuse
               SELECT wanted.row_id, old.row_id, old.status FROM ledger AS old
               CROSS JOIN wanted USING (row_key, ordinal)
               WHERE old.row_id >= ? AND old.row_id < ?""",
            stretch_of(earlier),
        )
    connection.execute("DROP TABLE temp.wanted")
    (last,) = connection.execute("SELECT max(row_id) FROM reuse").fetchone()
    return 0 if last is None else last + 1


def _earlier_runs(connection: sqlite3.Connection, run_id: int) -> list[int]:
    rows = connection.execute(
        """SELECT earlier.run_id FROM runs AS this
           JOIN runs AS earlier USING (plan_digest, server)
           WHERE this.run_id = ? AND earlier.run_id < this.run_id
             AND earlier.run_id >= this.since_run
           ORDER BY earlier.run_id DESC LIMIT ?""",
        (run_id, EARLIER_RUNS),
    )
    return [earlier for (earlier,) in rows]


def copy_done(connection: sqlite3.Connection, first: int, end: int) -> int:
    """Copy the results that `find_done` has found for these row numbers; how many."""
    copied = connection.execute(
        """INSERT INTO results
           SELECT reuse.row_id, raw, fields, failure, calls, truncated
           FROM reuse JOIN results ON results.row_id = reuse.old_id
           WHERE reuse.status = 1 AND reuse.row_id >= ? AND reuse.row_id < ?
           ORDER BY reuse.row_id""",
        (first, end),
    ).rowcount
    connection.execute(
        """UPDATE ledger SET status = 1 WHERE row_id IN (
               SELECT row_id FROM reuse WHERE status = 1 AND row_id >= ? AND row_id < ?)""",
        (first, end),
    )
    return copied


def forget_found(connection: sqlite3.Connection) -> None:
    """Give the room of what `find_done` has collected back."""
    connection.execute("DROP TABLE temp.reuse")
