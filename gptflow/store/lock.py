"""One process at a time may write a store: a lock that says who holds it.

The lock is flock(2) on a file beside the store. The kernel drops it when its process ends, however
it ends, so that there are no stale locks to judge or break. Not for Windows, which has no flock.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from gptflow.errors import StoreError, StoreLocked
from gptflow.files import NO_ROOM
from gptflow.store.filesystem import followed

_ROOM = "make room on its disk (df, quota, ulimit -f), or choose another with --store"
SECOND_TRY_S = 0.05


class Holder(msgspec.Struct, frozen=True):
    """The process that holds a lock."""

    pid: int
    host: str
    since: float
    """Seconds since 1970."""

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"


class StoreLock:
    """The right to write one store. Held from construction to `release`.

    Raises StoreLocked if another process has it, and StoreError if the file cannot be locked.
    A forked child shares the lock for as long as it lives; a started program does not.
    """

    def __init__(self, store: Path, now: float) -> None:
        self._store = store
        self._path = store.with_name(store.name + ".lock")
        self._holder = Holder(pid=os.getpid(), host=socket.gethostname(), since=now)
        self._file = self._take()

    def keep(self) -> bool:
        """Whether the store is still this process's to write.

        A lock whose file somebody removed keeps nobody out: it is taken again, if it is free.
        """
        if _is_at(self._path, self._file):
            return True
        try:
            taken = self._take()
        except StoreLocked:
            return False
        except StoreError:  # its folder is gone too, or is full: that is for others to say
            return True
        os.close(self._file)
        self._file = taken
        return True

    def release(self) -> None:
        """Let the next process have the store.

        The file stays. If it were removed, a process that had just opened it would lock a file
        without a name, while a third one creates and locks a new file: two writers.
        """
        with suppress(OSError):  # a disk that has failed: the name stays, and holds nothing
            os.ftruncate(self._file, 0)
        os.close(self._file)

    def _take(self) -> int:
        while True:
            file = self._open()
            try:
                _lock(file, self._store)
                self._sign(file)
            except StoreError:
                os.close(file)
                raise
            if _is_at(self._path, file):
                return file
            os.close(file)  # removed in the moment before it was locked

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"the store {self._store} cannot be written: {self._path}: {error.strerror}",
                hint=_ROOM
                if error.errno in NO_ROOM
                else "check the permissions of its folder, or choose another file with --store",
            ) from error

    def _sign(self, file: int) -> None:
        """Write down who holds it, for those who are refused."""
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, msgspec.json.encode(self._holder), 0)
        except OSError as error:
            raise StoreError(
                f"the store {self._store} cannot be written: {self._path}: {error.strerror}",
                hint=_ROOM,
            ) from error


def holder_of(store: Path) -> str | None:
    """Who is writing the store, in words; None if nobody is. Makes no file.

    Raises StoreError if that cannot be told.
    """
    store = followed(store)
    try:
        file = os.open(store.with_name(store.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the lock of the store {store} cannot be read: {error}") from error
    try:
        # Shared, and for a moment only: who takes the lock for itself tries for longer than that.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return str(_holder(file) or "another process")
    except OSError as error:
        raise StoreError(f"the lock of the store {store} cannot be read: {error}") from error
    finally:
        os.close(file)
    return None


def _lock(file: int, store: Path) -> None:
    """Take the lock at once, or after SECOND_TRY_S.

    By then who only looked has let go of it, and who has just taken it has written his name down.
    """
    with suppress(BlockingIOError):
        return _lock_at_once(file, store)
    time.sleep(SECOND_TRY_S)
    try:
        _lock_at_once(file, store)
    except BlockingIOError as error:
        raise StoreLocked(
            f"the store {store} is in use by {_holder(file) or 'another process'}",
            hint="wait until that run is done, or stop it with Ctrl-C where it runs",
        ) from error


def _lock_at_once(file: int, store: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise StoreError(
            f"the store {store} cannot be locked: {error.strerror}",
            hint="keep the store on a local disk, not on a network share: --store FILE",
        ) from error


def _is_at(path: Path, file: int) -> bool:
    """Whether the open file is the one that bears this name, or that cannot be told just now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _holder(file: int) -> Holder | None:
    """Who holds the lock; None in the moment between locking and writing the name down."""
    try:
        return msgspec.json.decode(os.pread(file, 4096, 0), type=Holder)
    except msgspec.MsgspecError:
        return None
