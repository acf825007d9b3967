"""One call at a time may write the answers of a single round, and it goes on only with its own.

The lock is flock(2) on a hidden file beside `fout`, which says what the answers were asked with.
The kernel drops the lock when its process ends. The file stays: to remove it would let two in.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from gptflow.errors import UsageError
from gptflow.flock import flock_holder
from gptflow.wrapper.answer_log import unwritable

_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that have none. That is no reason to refuse to write on them."""


class Settings(msgspec.Struct, frozen=True):
    """What all prompts of a round are asked with."""

    engine: str
    digest: str
    """A hash of model, endpoint and parameters."""


def _writer(lock: Path) -> str:
    """Who has a lock; a process may call this in one of its threads and be refused in another."""
    holder = flock_holder(lock)
    return "another call" if holder == f"process {os.getpid()}" else holder


class RoundLock:
    """The right to write a round's files; held until its `with` block ends."""

    def __init__(self, fout: Path) -> None:
        """Take the lock.

        Raises:
            UsageError: another call has it.
            OutputError: nothing can be written there.
        """
        self._path = fout.with_name(f".{fout.name}.gptflow")
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(fout, error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                return
            os.close(self._file)
            if not isinstance(error, BlockingIOError):
                raise unwritable(fout, error) from None
            raise UsageError(
                f"{fout} is being written by {_writer(self._path)}",
                hint="wait until it is done, or give this one another fout",
            ) from None

    def recorded(self) -> Settings | None:
        """What the answers so far were asked with; None if nobody knows."""
        try:
            # Behind its line there may be the end of a longer one: see `record`.
            line = os.pread(self._file, 4096, 0).partition(b"\n")[0]
            return msgspec.json.decode(line, type=Settings)
        except msgspec.MsgspecError:
            return None

    def record(self, settings: Settings) -> None:
        """Says what the answers from now on are asked with.

        Raises:
            OutputError: it cannot be written.
        """
        line = msgspec.json.encode(settings) + b"\n"
        try:
            # In this order: a crash between the two must not leave a file that says nothing.
            os.pwrite(self._file, line, 0)
            os.ftruncate(self._file, len(line))
        except OSError as error:
            raise unwritable(self._path, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)
