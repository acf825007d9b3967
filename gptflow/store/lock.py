"""One process at a time may write a store: a lock that says who holds it.

The lock is flock(2) on a file beside the store. The kernel drops it when its process ends, however
it ends, so that there are no stale locks to judge or break. Not for Windows, which has no flock.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

import msgspec

from gptflow.errors import StoreError, StoreLocked


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
        path = store.with_name(store.name + ".lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"the store {store} cannot be written: {path}: {error.strerror}",
                hint="check the permissions of its folder, or choose another file with --store",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._file)
            os.close(self._file)
            raise _refusal(store, error, holder) from error
        me = Holder(pid=os.getpid(), host=socket.gethostname(), since=now)
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, msgspec.json.encode(me), 0)
        except OSError as error:
            os.close(self._file)
            raise StoreError(
                f"the store {store} cannot be written: {path}: {error.strerror}",
                hint="make room on its disk (df, quota, ulimit -f), or choose another with --store",
            ) from error

    def release(self) -> None:
        """Let the next process have the store.

        The file stays. If it were removed, a process that had just opened it would lock a file
        without a name, while a third one creates and locks a new file: two writers.
        """
        os.ftruncate(self._file, 0)
        os.close(self._file)


def _refusal(store: Path, error: OSError, holder: Holder | None) -> StoreError:
    if isinstance(error, BlockingIOError):
        return StoreLocked(
            f"the store {store} is in use by {holder or 'another process'}",
            hint="wait until that run is done, or stop it with Ctrl-C where it runs",
        )
    return StoreError(
        f"the store {store} cannot be locked: {error.strerror}",
        hint="keep the store on a local disk, not on a network share: --store FILE",
    )


def _holder(file: int) -> Holder | None:
    """Who holds the lock; None in the moment between locking and writing the name down."""
    try:
        return msgspec.json.decode(os.pread(file, 4096, 0), type=Holder)
    except msgspec.MsgspecError:
        return None
