"""The version of a store's tables, and the way from an older one to this gptflow's."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gptflow.errors import StoreCorrupt, StoreError, StoreVersion

MIGRATIONS = Path(__file__).with_name("migrations")
"""The folder of the files NNNN.sql, numbered from 1 without gaps."""

APPLICATION_ID = 0x67707466
"""Marks a database as a store of ours (https://sqlite.org/pragma.html#pragma_application_id)."""


def migrate(connection: sqlite3.Connection, path: Path, folder: Path = MIGRATIONS) -> None:
    """Bring the store to the newest version, each step in a transaction of its own.

    A store that a step fails on is left at the version before it, with the error raised.
    """
    for number in range(stored_version(connection, path, folder) + 1, newest_version(folder) + 1):
        steps = (folder / f"{number:04}.sql").read_text(encoding="utf-8")
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{steps}\n"
                f"PRAGMA application_id = {APPLICATION_ID};\n"
                f"PRAGMA user_version = {number};\nCOMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def newest_version(folder: Path = MIGRATIONS) -> int:
    """The version that this gptflow works with."""
    return max(int(file.stem) for file in folder.glob("[0-9]*.sql"))


def stored_version(connection: sqlite3.Connection, path: Path, folder: Path = MIGRATIONS) -> int:
    """The version of the store: 0 for an empty file.

    Raises StoreVersion if it is newer than this gptflow, and StoreCorrupt if the database is
    another program's; neither has been touched then.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreCorrupt(
            f"{path} is an SQLite database, but not a store of gptflow",
            hint="choose another file with --store",
        )
    if version > newest_version(folder):
        raise StoreVersion(
            f"the store {path} has version {version}; this gptflow knows versions up to "
            f"{newest_version(folder)}",
            hint="pip install --upgrade gptflow",
        )
    return int(version)


def require_current(connection: sqlite3.Connection, path: Path, folder: Path = MIGRATIONS) -> None:
    """Raise StoreError unless the store has the version that this gptflow reads."""
    version, newest = stored_version(connection, path, folder), newest_version(folder)
    if version == 0:
        raise StoreError(f"the store {path} is still empty", hint="it is filled by `gptflow run`")
    if version < newest:
        raise StoreError(
            f"the store {path} has version {version}; this gptflow reads {newest}",
            hint="the next `gptflow run` on it brings it up to date",
        )
