"""Rows that an earlier run has done are taken over, without asking or extracting.

Such a row refers to the result where it is. To copy the results of a million rows because of ten
new ones took 15 seconds, and as much room again.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from gptflow.store.ledger import LedgerDigest, stretch_of
from gptflow.store.record import row_id

EARLIER_RUNS = 5
"""How far to look back. Each run has taken over from those before it, and what is missed here is
found call by call."""
WORTH_ROWS = 400
"""Rows of an earlier run that one row is looked for among: to look at them all takes as long as to
find the calls of that one."""
COPIED_AT_ONCE = 50_000
"""Rows: SQLite collects them in memory, as it reads the table that it writes."""


@dataclass(frozen=True, slots=True)
class SharedRows:
    """Rows that a run begins with as an earlier one does: the same keys at the same places."""

    run_id: int
    """The earlier run. It had its rows numbered: their ordinals are right."""
    same_work: bool
    """Whether it asks the same of a row: what it has done is done then."""
    digest: LedgerDigest = field(default_factory=LedgerDigest)
    """Of these rows. Whoever begins the run adds those that follow."""


def copy_rows(connection: sqlite3.Connection, run_id: int, shared: SharedRows) -> None:
    """Begin a run's ledger with the rows of an earlier one. What that has not done is pending."""
    first, old, count = row_id(run_id, 0), row_id(shared.run_id, 0), shared.digest.rows
    for start in range(0, count, COPIED_AT_ONCE):
        end = min(start + COPIED_AT_ONCE, count)
        stretch = (first - old, old + start, old + end)
        connection.execute(
            """INSERT INTO ledger
               SELECT row_id + ?1, record, row_key, ordinal, ?4 AND status = 1 FROM ledger
               WHERE row_id >= ?2 AND row_id < ?3 ORDER BY row_id""",
            (*stretch, shared.same_work),
        )
        connection.execute(
            """INSERT INTO reused
               SELECT row_id + ?1, coalesce(result_id, row_id)
               FROM ledger LEFT JOIN reused USING (row_id)
               WHERE row_id >= ?2 AND row_id < ?3 AND status = 1 AND ?4 ORDER BY row_id""",
            (*stretch, shared.same_work),
        )


def find_done(connection: sqlite3.Connection, run_id: int) -> int:
    """Collect the pending rows that earlier runs have done in the temporary table `found`.

    What the latest earlier run that has the row says, counts: a row that it left pending is not
    taken from a run before it, where it may be what was to be asked again. Few rows are not looked
    for in a long run: their calls are found quicker. Gives the first row number after the last one
    that was found.
    """
    connection.execute(
        "CREATE TEMP TABLE found (row_id INTEGER PRIMARY KEY, result_id INTEGER, status INTEGER)"
    )
    earlier_runs = _earlier_runs(connection, run_id)
    if not earlier_runs:
        return 0
    connection.execute(
        """CREATE TEMP TABLE wanted (
               row_key BLOB, ordinal INTEGER, row_id INTEGER, PRIMARY KEY (row_key, ordinal)
           ) WITHOUT ROWID"""
    )
    # In the order of the keys, as the look-ups below: pages are then written and read once.
    connection.execute(
        """INSERT INTO wanted SELECT row_key, ordinal, row_id FROM ledger
           WHERE status = 0 AND row_id >= ? AND row_id < ? ORDER BY row_key, ordinal""",
        stretch_of(run_id),
    )
    (wanted,) = connection.execute("SELECT count(*) FROM wanted").fetchone()
    for earlier, rows in earlier_runs:
        if wanted * WORTH_ROWS < rows:
            break  # nor in those before it: what it left pending may stand there as done
        connection.execute(
            """INSERT OR IGNORE INTO found
               SELECT wanted.row_id, coalesce(result_id, old.row_id), old.status
               FROM ledger AS old CROSS JOIN wanted USING (row_key, ordinal)
               LEFT JOIN reused ON reused.row_id = old.row_id
               WHERE old.row_id >= ? AND old.row_id < ?""",
            stretch_of(earlier),
        )
    connection.execute("DROP TABLE temp.wanted")
    (last,) = connection.execute("SELECT max(row_id) FROM found").fetchone()
    return 0 if last is None else last + 1


def _earlier_runs(connection: sqlite3.Connection, run_id: int) -> list[tuple[int, int]]:
    """The runs to look into, the latest first, each with the number of its rows."""
    return connection.execute(
        """SELECT earlier.run_id, earlier.rows FROM runs AS this
           JOIN runs AS earlier USING (plan_digest, server)
           WHERE this.run_id = ? AND earlier.run_id < this.run_id
             AND earlier.run_id >= this.since_run
           ORDER BY earlier.run_id DESC LIMIT ?""",
        (run_id, EARLIER_RUNS),
    ).fetchall()


def copy_done(connection: sqlite3.Connection, first: int, end: int) -> int:
    """Take over the rows that `find_done` has found, of these row numbers; how many."""
    stretch = (first, end)
    connection.execute(
        """INSERT INTO reused SELECT row_id, result_id FROM found
           WHERE status = 1 AND row_id >= ? AND row_id < ? ORDER BY row_id""",
        stretch,
    )
    return connection.execute(
        """UPDATE ledger SET status = 1 WHERE row_id IN (
               SELECT row_id FROM found WHERE status = 1 AND row_id >= ? AND row_id < ?)""",
        stretch,
    ).rowcount


def forget_found(connection: sqlite3.Connection) -> None:
    """Give the room of what `find_done` has collected back."""
    connection.execute("DROP TABLE temp.found")
