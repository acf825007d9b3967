"""Whether a store is sound; and where it is not, a sound one in its place."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gptflow.errors import StoreCorrupt, StoreError
from gptflow.store.connection import DATABASE_ERRORS, connect_reader, store_error
from gptflow.store.filesystem import filesystem_of
from gptflow.store.lock import StoreLock, holder_of
from gptflow.store.log import TORN, commits_behind, log_of, valid_frames
from gptflow.store.mend import mend, misfits
from gptflow.store.migration import APPLICATION_ID, migrate, newest_version, stored_version
from gptflow.store.place import unused_name
from gptflow.store.salvage import Sound, salvage
from gptflow.store.sound import is_object, soundness

FAULTS_SHOWN = 5
"""Of those that SQLite finds; the first ones say enough."""
_ABSURD_VERSION = 1000
"""A version so far above today's is a damaged number."""
_TABLES = {"runs", "ledger", "results", "calls"}


@dataclass(slots=True)
class Diagnosis:
    """How a store is, and where."""

    path: Path
    size_bytes: int
    filesystem: str
    """Such as `ext4`; empty if unknown."""
    free_bytes: int
    """What its disk has left."""
    holder: str | None
    """Who is writing it."""
    runs: int = 0
    rows: int = 0
    """Of all runs, ended or pending."""
    replies: int = 0
    version: int = 0
    journal: str = ""
    """`wal`, or a kind of rollback journal."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with it; nothing if it is healthy."""
    unchecked: str = ""
    """What could not be looked at, and why."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What was saved of a damaged store into the one that is in its place now."""

    damaged: Path
    """The damaged file, as it was."""
    runs: int
    rows: int
    """Rows that have ended, with what came of them."""
    replies: int
    lost_rows: int
    """Rows that are to be worked on again. What has a reply is not asked again."""
    lost_replies: int


def examine(path: Path, is_reply: Callable[[bytes], bool] = is_object) -> Diagnosis:
    """Look at a store as a reader does; a process that is writing it is not held up.

    `is_reply` says whether a body can still be read.

    Raises:
        StoreVersion: a newer gptflow has written it.
        StoreCorrupt: it is another program's database.
        StoreError: there is no store.
    """
    return _examine(path, soundness(is_reply), holder_of(path))


def _examine(path: Path, sound: Sound, holder: str | None) -> Diagnosis:
    with suppress(FileNotFoundError):
        if path.stat().st_size == 0 and not _has_log(path):
            raise StoreError(f"the store {path} is an empty file", hint="`gptflow run` fills it")
    if not path.exists() and not _has_log(path):
        raise StoreError(f"there is no store {path}", hint="gptflow runs lists the stores")
    folder = os.statvfs(path.parent)
    diagnosis = Diagnosis(
        path,
        size_bytes=sum(file.stat().st_size for file in (path, log_of(path)) if file.exists()),
        filesystem=filesystem_of(path),
        free_bytes=folder.f_bavail * folder.f_frsize,
        holder=holder,
    )
    if not path.exists() or path.stat().st_size == 0:
        diagnosis.problems.append(f"its file is empty or gone; its log {log_of(path)} is there")
        return diagnosis
    if diagnosis.holder is None:  # a writer's log is never at rest
        behind = commits_behind(path, valid_frames(path))
        if behind > TORN:
            what = f"{behind:,} commits in its log are behind a damaged place"
            diagnosis.problems.append(what)
    try:
        with closing(connect_reader(path)) as connection:
            _look_into(connection, diagnosis, sound)
    except DATABASE_ERRORS as error:
        diagnosis.problems.append(str(error))
    except StoreCorrupt as error:
        if not isinstance(error.__cause__, DATABASE_ERRORS) and not diagnosis.problems:
            raise
        diagnosis.problems.append(str(error.__cause__ or error.message))
    return diagnosis


def _has_log(path: Path) -> bool:
    return log_of(path).exists() and log_of(path).stat().st_size > 0


def _look_into(connection: sqlite3.Connection, diagnosis: Diagnosis, sound: Sound) -> None:
    (diagnosis.journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    _look_at_version(connection, diagnosis)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if diagnosis.version == 0:
        return
    if lacking := _TABLES - tables:
        diagnosis.problems.append(f"it lacks the tables {', '.join(sorted(lacking))}")
        return
    if diagnosis.version == newest_version() and not _has_todays_tables(connection):
        diagnosis.problems.append("its tables are not those of a store")
        return
    if "reused" not in tables:  # a store of before; a temporary table is not written to it
        connection.execute("CREATE TEMP TABLE reused (row_id INTEGER PRIMARY KEY, result_id)")
    if diagnosis.holder and diagnosis.journal != "wal":
        diagnosis.unchecked = "its contents: a long look would hold up the run that writes it"
    else:
        _look_at_contents(connection, diagnosis, sound)


def _look_at_version(connection: sqlite3.Connection, diagnosis: Diagnosis) -> None:
    """Raises for what is none of ours; damage of the numbers that say so is a problem."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (diagnosis.version,) = connection.execute("PRAGMA user_version").fetchone()
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if application != APPLICATION_ID and names >= _TABLES:
        diagnosis.problems.append("the mark of a store is damaged")
    elif abs(diagnosis.version - newest_version()) > _ABSURD_VERSION:
        diagnosis.problems.append(f"its version is damaged: {diagnosis.version}")
    else:
        stored_version(connection, diagnosis.path)


def _has_todays_tables(connection: sqlite3.Connection) -> bool:
    """Whether each table, index and trigger is as a new store has it."""
    listed = "SELECT name, sql FROM sqlite_master ORDER BY name"
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        migrate(new, Path(":memory:"))
        return connection.execute(listed).fetchall() == new.execute(listed).fetchall()


def _look_at_contents(connection: sqlite3.Connection, diagnosis: Diagnosis, sound: Sound) -> None:
    for (said,) in connection.execute(f"PRAGMA integrity_check({FAULTS_SHOWN})"):
        if said != "ok":
            diagnosis.problems.append(str(said).replace("\n", "; "))
    counts = connection.execute(
        "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM ledger),"
        " (SELECT count(*) FROM calls)"
    ).fetchone()
    diagnosis.runs, diagnosis.rows, diagnosis.replies = counts
    if diagnosis.holder is None:  # a run may be in the middle of its beginning
        diagnosis.problems += misfits(connection)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda text: text.decode(errors="replace")
    for table, what in (("calls", "replies"), ("results", "results")):
        rows = connection.execute(f"SELECT * FROM {table}")  # noqa: S608  # one of two names
        if broken := sum(not sound[table](dict(row)) for row in rows):
            diagnosis.problems.append(f"{what} that cannot be read: {broken:,}")


def repair(path: Path, now: float, is_reply: Callable[[bytes], bool] = is_object) -> Repair | None:
    """Put a sound store with all that can be read in the place of a damaged one.

    The damaged one stays beside it, under a name that says when. None if it is sound.

    Raises:
        StoreLocked: a run is writing it.
        StoreCorrupt: nothing in it looks like a store, so nothing was done.
        StoreError: there is no room for the new one.
        Others as `examine`.
    """
    sound = soundness(is_reply)
    _examine(path, sound, holder_of(path))  # what is no store of ours gets no lock beside it
    lock = StoreLock(path, now)
    try:
        if not _examine(path, sound, holder=None).problems:
            return None
        new = unused_name(path, "repaired")
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        damaged = unused_name(path, f"damaged-{stamp}")
        try:
            saved = _save(path, new, damaged, sound)
        except sqlite3.Error as error:
            new.unlink(missing_ok=True)
            raise store_error(new, error) from error
        if not saved.runs:
            new.unlink()
            raise StoreCorrupt(
                f"nothing in {path} looks like a store; it was left as it is",
                hint="move it away, or choose another file with --store",
            )
        _replace(path, new, damaged)
        return saved
    finally:
        lock.release()


def _save(path: Path, new: Path, damaged: Path, sound: Sound) -> Repair:
    """A new store, whole and on the disk on return, with what can be read of the old one."""
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        migrate(connection, new)
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("BEGIN IMMEDIATE")
        salvage(path, connection, sound)
        lost_rows = mend(connection)
        connection.execute("COMMIT")
        runs, rows, replies, last = connection.execute(
            """SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM ledger WHERE status != 0),
                      (SELECT count(*) FROM calls), (SELECT coalesce(max(call_id), 0) FROM calls)"""
        ).fetchone()
    lost_replies = max(last, _paid(path)) - replies
    return Repair(damaged, runs, rows, replies, lost_rows, lost_replies)


def _paid(path: Path) -> int:
    """How many replies the store should have, as far as that can be read."""
    with suppress(StoreError, *DATABASE_ERRORS), closing(connect_reader(path)) as connection:
        (calls,) = connection.execute("SELECT coalesce(sum(calls), 0) FROM usage").fetchone()
        return int(calls)
    return 0


def _replace(path: Path, new: Path, damaged: Path) -> None:
    """The damaged file gets another name, with all that belongs to it, and the new one its own."""
    for end in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(damaged.with_name(damaged.name + end))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # where only its log was left
        path.rename(damaged)
    new.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
