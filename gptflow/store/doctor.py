"""Whether a store is sound; and where it is not, a sound one in its place."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gptflow.errors import StoreCorrupt, StoreError
from gptflow.store.connection import DATABASE_ERRORS, connect_reader, store_error
from gptflow.store.exchange import (
    damaged_name,
    discard,
    exchange,
    finish,
    half_made,
    unfinished,
    unused_stamp,
)
from gptflow.store.filesystem import filesystem_of, followed
from gptflow.store.lock import StoreLock, holder_of
from gptflow.store.log import TORN, commits_behind, log_of, valid_frames
from gptflow.store.mend import mend, misfits
from gptflow.store.migration import APPLICATION_ID, migrate, newest_version, stored_version
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
    lost_rows: int | None
    """Rows that are to be worked on again. What has a reply is not asked again.

    None if a repair was gone on with that had been interrupted: what was lost is not known then.
    """
    lost_replies: int | None


def examine(path: Path, is_reply: Callable[[bytes], bool] = is_object) -> Diagnosis:
    """Look at a store as a reader does; a process that is writing it is not held up.

    `is_reply` says whether a body can still be read.

    Raises:
        StoreVersion: a newer gptflow has written it.
        StoreCorrupt: it is another program's database.
        StoreError: there is no store.
    """
    path = followed(path)
    with _disk_errors(path):
        return _examine(path, soundness(is_reply), holder_of(path))


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Raises StoreError where the disk, or a name, lets nobody look."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be looked at: {error.strerror}: {error.filename or path}",
            hint="check the permissions of it and its folder, and the disk",
        ) from error


def _examine(path: Path, sound: Sound, holder: str | None) -> Diagnosis:
    with suppress(FileNotFoundError):
        if path.stat().st_size == 0 and not _has_log(path):
            raise StoreError(f"the store {path} is an empty file", hint="`gptflow run` fills it")
    if not path.exists() and not _has_log(path) and unfinished(path) is None:
        raise StoreError(f"there is no store {path}", hint="gptflow runs lists the stores")
    folder = os.statvfs(path.parent)
    diagnosis = Diagnosis(
        path,
        size_bytes=sum(file.stat().st_size for file in (path, log_of(path)) if file.exists()),
        filesystem=filesystem_of(path),
        free_bytes=folder.f_bavail * folder.f_frsize,
        holder=holder,
    )
    if unfinished(path) is not None:
        diagnosis.problems.append("a repair of it was interrupted, and is to be gone on with")
        return diagnosis
    if not path.exists() or path.stat().st_size == 0:
        diagnosis.problems.append(f"its file is empty or gone; its log {log_of(path)} is there")
        return diagnosis
    if diagnosis.holder is None:  # a writer's log is never at rest
        _look_at_log(diagnosis)
    try:
        with closing(connect_reader(path)) as connection:
            _look_into(connection, diagnosis, sound)
    except DATABASE_ERRORS as error:
        diagnosis.problems.append(str(error))
    except StoreError as error:
        if not _is_damage(error) and not (diagnosis.problems and isinstance(error, StoreCorrupt)):
            raise
        diagnosis.problems.append(str(error.__cause__ or error.message))
    return diagnosis


def _is_damage(error: StoreError) -> bool:
    """Whether the file is bad, or the disk under it; rather than another program's, or in use."""
    cause = error.__cause__
    if isinstance(error, StoreCorrupt):
        return isinstance(cause, DATABASE_ERRORS)
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR


def _look_at_log(diagnosis: Diagnosis) -> None:
    try:
        behind = commits_behind(diagnosis.path, valid_frames(diagnosis.path))
    except OSError as error:
        diagnosis.problems.append(f"its log cannot be read: {error.strerror}")
        return
    if behind > TORN:
        what = f"{behind:,} commits in its log are behind a damaged place"
        diagnosis.problems.append(what)


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
    path = followed(path)
    sound = soundness(is_reply)
    with _disk_errors(path):
        _examine(path, sound, holder_of(path))  # what is no store of ours gets no lock beside it
        lock = StoreLock(path, now)
        try:
            stamp = unfinished(path)
            if stamp is None:
                return _repair(path, now, sound)
            finish(path, stamp)
            with closing(connect_reader(path)) as connection:
                return Repair(damaged_name(path, stamp), *_counts(connection), None, None)
        finally:
            lock.release()


def _repair(path: Path, now: float, sound: Sound) -> Repair | None:
    if not _examine(path, sound, holder=None).problems:
        return None
    half, stamp = half_made(path), unused_stamp(path, now)
    discard(half)
    try:
        saved = _save(path, half, damaged_name(path, stamp), sound)
    except sqlite3.Error as error:
        discard(half)
        raise store_error(half, error) from error
    except BaseException:
        discard(half)
        raise
    if not saved.runs:
        discard(half)
        raise StoreCorrupt(
            f"nothing in {path} looks like a store; it was left as it is",
            hint="move it away, or choose another file with --store",
        )
    exchange(path, half, stamp)
    return saved


def _save(path: Path, new: Path, damaged: Path, sound: Sound) -> Repair:
    """A new store, whole and on the disk on return, with what can be read of the old one."""
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        migrate(connection, new)
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("BEGIN IMMEDIATE")
        salvage(path, connection, sound)
        lost_rows = mend(connection)
        connection.execute("COMMIT")
        runs, rows, replies = _counts(connection)
        (last,) = connection.execute("SELECT coalesce(max(call_id), 0) FROM calls").fetchone()
    # Each of the two may be a number that is damaged itself; neither can be below what was saved.
    had = min((count for count in (last, _paid(path)) if count >= replies), default=replies)
    return Repair(damaged, runs, rows, replies, lost_rows, had - replies)


def _counts(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Runs, rows that have ended, and replies."""
    runs, rows, replies = connection.execute(
        """SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM ledger WHERE status != 0),
                  (SELECT count(*) FROM calls)"""
    ).fetchone()
    return runs, rows, replies


def _paid(path: Path) -> int:
    """How many replies the store should have, as far as that can be read."""
    with suppress(StoreError, *DATABASE_ERRORS), closing(connect_reader(path)) as connection:
        (calls,) = connection.execute("SELECT coalesce(sum(calls), 0) FROM usage").fetchone()
        return int(calls)
    return 0
