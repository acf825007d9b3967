"""Connections to the store's file, and what SQLite's errors mean to a person."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gptflow.errors import StoreCorrupt, StoreError

BUSY_S = 10.0
"""How long to wait for a lock of another program, such as an SQLite shell or a backup."""

_WRITER_PRAGMAS = """
PRAGMA journal_mode = WAL;             -- readers read while the writer writes
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


def prepare_writer(connection: sqlite3.Connection) -> None:
    """Set the file to WAL and the connection to full durability."""
    connection.executescript(_WRITER_PRAGMAS)


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for the thread that calls this.

    Raises StoreError if there is no such file: reading never creates one.
    """
    refuse_folder(path)
    if not path.exists():
        raise StoreError(f"there is no store {path}", hint="it is written by `gptflow run`")
    try:
        reader = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
        )
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    try:
        reader.execute("PRAGMA cache_size = -4096")  # the first look at what is in the file
    except sqlite3.Error as error:
        reader.close()
        raise store_error(path, error) from error
    return reader


def refuse_folder(path: Path) -> None:
    """Raises StoreError for a folder, which SQLite would call a disk error."""
    if path.is_dir():
        raise StoreError(f"the store {path} is a folder", hint="name a file in it")


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What an error of SQLite on the store means, with the way out where there is one.

    The codes are those of https://sqlite.org/rescode.html.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(
            f"the store {path} is damaged or no store at all: {error}",
            hint=f"gptflow doctor --store {path}  says what can be saved of it, and --repair does",
        )
    what, hint = _MEANINGS.get(code, ("cannot be used", None))
    return StoreError(f"the store {path} {what}: {error}", hint=hint)


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
