"""The files of an open store must stay where they are.

What is written to a file that was removed or replaced is gone when its process ends. So that is
looked for after each commit, and all that the store held is then copied to a new file.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from gptflow.errors import StoreError, StoreLocked
from gptflow.store.lock import StoreLock

_Identity = tuple[int, int]
"""Device and inode: what a file is, whatever its name."""


class Place:
    """The names of a store's files, with the files that bore them when it was opened.

    It is made when all of them are there: after the first transaction.
    """

    def __init__(self, path: Path, lock: StoreLock) -> None:
        self._path = path
        self._lock = lock
        names = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
        self._files = [(name, _identity(name.stat())) for name in names if name.exists()]
        self._size = path.stat().st_size

    def loss(self, connection: sqlite3.Connection) -> StoreError | None:
        """Why nothing may be written any more, or None: a matter of microseconds.

        In case of a loss all that `connection` has committed is first copied to another file.
        """
        what = self._change()
        if what is not None:
            return _kept(self._path, what, connection)
        if not self._lock.keep():
            return StoreLocked(
                f"the lock of the store {self._path} was removed, and another process has it now",
                hint="what was stored is safe; wait until that process is done",
            )
        return None

    def _change(self) -> str | None:
        """What somebody has done to a file of the store.

        Where that cannot be told, as for a moment on a network, the next commit looks again.
        """
        for name, identity in self._files:
            try:
                now = name.stat()
            except (FileNotFoundError, NotADirectoryError):
                return f"{name} was removed"
            except OSError:
                continue
            if _identity(now) != identity:
                return f"{name} was replaced by another file"
            if name == self._path:
                if now.st_size < self._size:  # the writer itself never makes it smaller
                    return f"{name} was cut short"
                self._size = now.st_size
        return None


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _kept(path: Path, what: str, connection: sqlite3.Connection) -> StoreError:
    what = f"{what} while the store was being written"
    try:
        copy = rescue(connection, path)
    except (sqlite3.Error, OSError) as error:
        return StoreError(
            f"{what}, and no copy of it could be written: {error}",
            hint=f"put back what was removed, and look at it: gptflow doctor --store {path}",
        )
    if not _is_sound(copy):  # what was cut off has been read as zeros
        return StoreError(
            f"{what}; what is left is in {copy}",
            hint=f"gptflow doctor --store {copy} --repair  saves what can be read of it",
        )
    return StoreError(
        f"{what}; all that it held is in {copy}",
        hint=f"the same command with --store {copy} goes on from there",
    )


def _is_sound(copy: Path) -> bool:
    try:
        with closing(sqlite3.connect(copy)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def rescue(connection: sqlite3.Connection, path: Path) -> Path:
    """Copy what an open database holds, whatever became of its files, to a new file beside `path`.

    The copy is on the disk on return; its name is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    copy = unused_name(path, "rescued")
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            connection.backup(target)
    except (sqlite3.Error, OSError):
        copy.unlink(missing_ok=True)
        raise
    return copy


def unused_name(path: Path, word: str) -> Path:
    """NAME.word.db for NAME.db, or the next that no file has: NAME.word-2.db."""
    number = 1
    while True:
        middle = word if number == 1 else f"{word}-{number}"
        name = path.with_name(f"{path.stem}.{middle}{path.suffix}")
        if not name.exists():
            return name
        number += 1
