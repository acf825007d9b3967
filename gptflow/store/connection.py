"""Connections to the store's file, and what SQLite's errors mean to a person."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from gptflow.errors import StoreCorrupt, StoreError
from gptflow.store.exchange import refuse_unfinished
from gptflow.store.filesystem import followed
from gptflow.store.log import TORN, commits_behind, log_of

BUSY_S = 10.0
"""How long to wait for a lock of another program, such as an SQLite shell or a backup."""

ROLLBACK_BUSY_S = 60.0
"""The same with a rollback journal: there readers hold the writer up, page by page, and it them."""

DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged database raises: the second where its own name for what is wrong is no text."""

_WRITER_PRAGMAS = """
PRAGMA synchronous = FULL;             -- a commit is on the disk when it returns
PRAGMA cache_size = -8192;             -- KiB; also what a sort may use before it goes to disk
PRAGMA wal_autocheckpoint = 4000;      -- pages, 16 MB: pages that change often are moved once
PRAGMA journal_size_limit = 67108864;  -- bytes that the WAL keeps after a large transaction
"""


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes. Transactions are begun and committed by hand.

    Any thread may use it, one at a time. Nothing is written to the file yet.
    """
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def prepare_writer(connection: sqlite3.Connection, *, wal: bool) -> bool:
    """Set the connection to full durability; whether the file now has a WAL.

    With a WAL readers read while the writer writes. Without `wal`, or where SQLite finds no shared
    memory for one, it has a rollback journal, and they wait for each other.
    """
    connection.executescript(_WRITER_PRAGMAS)
    if wal and _journal(connection, "WAL") == "wal":
        return True
    _journal(connection, "TRUNCATE")
    connection.execute(f"PRAGMA busy_timeout = {ROLLBACK_BUSY_S * 1000:.0f}")
    return False


def _journal(connection: sqlite3.Connection, mode: str) -> str:
    (now,) = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
    return str(now)


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for the thread that calls this.

    Raises StoreError if there is no such file: reading never creates one.
    """
    path = followed(path)
    refuse_folder(path)
    refuse_unfinished(path)
    if not path.exists():
        raise StoreError(f"there is no store {path}", hint="it is written by `gptflow run`")
    try:
        return _reader(path, "mode=ro")
    except sqlite3.OperationalError as error:
        try:
            return _reader_after(path, error)
        except DATABASE_ERRORS as again:
            raise store_error(path, again) from again
    except DATABASE_ERRORS as error:
        raise store_error(path, error) from error


def _reader_after(path: Path, error: sqlite3.OperationalError) -> sqlite3.Connection:
    """A connection to what a plain reader cannot open; else raises the error, or one like it."""
    if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
        # A process died in the middle of a commit: it is undone by whoever may write.
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as mender:
            mender.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return _reader(path, "mode=ro")
    if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN and not log_of(path).exists():
        # A folder in which nothing may be made, and nothing has been: nobody writes there.
        return _reader(path, "mode=ro&immutable=1")
    raise error


def _reader(path: Path, how: str) -> sqlite3.Connection:
    reader = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, timeout=BUSY_S, isolation_level=None
    )
    try:
        reader.execute("PRAGMA cache_size = -4096")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first look
        (journal,) = reader.execute("PRAGMA journal_mode").fetchone()
        if journal != "wal":
            reader.execute(f"PRAGMA busy_timeout = {ROLLBACK_BUSY_S * 1000:.0f}")
    except DATABASE_ERRORS:
        reader.close()
        raise
    return reader


def refuse_lost_file(path: Path) -> None:
    """Raises StoreCorrupt if only the log of a store is left: SQLite would throw that away.

    Or if a repair of it was interrupted: what has its name may lack its log then.
    """
    refuse_unfinished(path)
    log = log_of(path)
    if (path.exists() and path.stat().st_size) or not log.exists() or not log.stat().st_size:
        return
    raise StoreCorrupt(
        f"the store {path} is empty or gone, but its log {log.name} is there",
        hint=f"gptflow doctor --store {path} --repair  saves what is in the log",
    )


def refuse_damaged_log(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreCorrupt if SQLite takes the log of a dead process up to a damaged place only."""
    if not log_of(path).exists():
        return
    # The last connection that may write removes the log: one that only reads is closed after it.
    with closing(connect_reader(path)):
        (_, valid, _) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if (behind := commits_behind(path, valid)) > TORN:
            connection.close()
            raise store_damage(path, f"{behind:,} commits in its log are behind a damaged place")


def refuse_folder(path: Path) -> None:
    """Raises StoreError for a folder, which SQLite would call a disk error."""
    if path.is_dir():
        raise StoreError(f"the store {path} is a folder", hint="name a file in it")


def store_error(path: Path, error: Exception) -> StoreError:
    """What an error of SQLite on the store means, with the way out where there is one.

    The codes are those of https://sqlite.org/rescode.html. An error without a code is of a value
    that is not what it should be.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return store_damage(path, str(error))
    what, hint = _MEANINGS.get(code, ("cannot be used", None))
    return StoreError(f"the store {path} {what}: {error}", hint=hint)


def store_damage(path: Path, what: str) -> StoreCorrupt:
    """What is in the file cannot have been written there."""
    return StoreCorrupt(
        f"the store {path} is damaged or no store at all: {what}",
        hint=f"gptflow doctor --store {path}  says what can be saved of it, and --repair does",
    )


_SAFE = "what was stored before is safe, and the same command goes on from there"
_MEANINGS = {
    sqlite3.SQLITE_FULL: ("has no room left on its disk", f"make room; {_SAFE}"),
    sqlite3.SQLITE_IOERR: ("got an error from its disk", f"check the disk; {_SAFE}"),
    sqlite3.SQLITE_BUSY: (
        "is being written by another program",
        "close the program that has it open, such as an SQLite shell",
    ),
    sqlite3.SQLITE_READONLY: ("cannot be written", "check the permissions of it and its folder"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check the permissions of it and its folder"),
}
