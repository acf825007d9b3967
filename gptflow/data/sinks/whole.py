"""An output file that is whole or absent: it grows beside its place, and moves there at the end."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from gptflow.errors import OutputError, UsageError
from gptflow.files import real, sync_folder
from gptflow.flock import flock_holder
from gptflow.spec.companion import part_path


class WholeFile:
    """A file that is written as `<output>.part` and renamed over the output when it is complete.

    The part belongs to one writer: it is locked with flock(2) from its beginning to its end, and
    the kernel drops the lock of a process that dies, so that its part can be told from a live one.

    As a context manager it closes the part and leaves it, unless it was committed: after an
    interruption the rows that are done can be looked at there.
    """

    path: Path
    """The output. Where it is a link, what the link points to: the link stays a link."""
    part: Path
    """The file that grows, beside `path`."""
    stream: BinaryIO
    """Writes to `part`, and can read it."""

    def __init__(self, output: Path) -> None:
        """Begin the part; one that a dead process has left is dropped.

        Raises:
            UsageError: the output cannot be written there, or another writer is at it.
        """
        self.path = real(output)
        self.part = part_path(self.path)
        if self.path.exists() and not self.path.is_file():
            kind = "a folder" if self.path.is_dir() else "not a regular file"
            raise UsageError(f"{output}: cannot be written: it is {kind}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = _begin(self.part)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{output}: cannot be written: its folder is a file") from None
        except BlockingIOError:
            raise UsageError(
                f"{output}: cannot be written: {flock_holder(self.part)} is writing it",
                hint="wait until that run or export is done, or give this one another output",
            ) from None
        except OSError as error:
            raise UsageError(f"{output}: cannot be written: {error.strerror}") from None

    def commit(self) -> None:
        """Put the part in the output's place. On return this outlives a power cut.

        Raises:
            OutputError: somebody has removed or replaced the part. The output stays what it was.
        """
        self.stream.flush()
        os.fsync(self.stream.fileno())
        # A lock binds those who ask for it. Others, and file systems without locks, may still
        # have put another file at this name, and that one is not known to be whole.
        if not _is_at(self.part, self.stream):
            raise OutputError(
                f"{self.path}: cannot be written: {self.part.name} was removed or replaced",
                hint="the rows are in the store: the same command writes them again",
            )
        self.part.replace(self.path)
        self.stream.close()
        sync_folder(self.path.parent)

    def abandon(self) -> None:
        """Remove the part, if it is still this one. The output stays what it was."""
        if not self.stream.closed and _is_at(self.part, self.stream):
            self.part.unlink()
        self.close()

    def close(self) -> None:
        """End the writing. A part that was not committed stays, and the next writer drops it."""
        # Closing writes what is buffered: on a full disk it fails once more, which is no news.
        with suppress(OSError):
            self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _begin(part: Path) -> BinaryIO:
    """A new, empty, locked file at `part`.

    Raises BlockingIOError if another writer has it.
    """
    while True:
        try:
            # "x": whatever appears at this name in between is not written through.
            stream = part.open("x+b")
        except FileExistsError:
            _drop(part)
            continue
        _lock(stream)
        if _is_at(part, stream):
            return stream
        stream.close()  # taken for a dead one's, in the moment before it was locked


def _drop(part: Path) -> None:
    """Remove what lies at `part`, unless it is a file that another writer has locked."""
    if part.is_symlink():
        part.unlink()
        return
    with suppress(FileNotFoundError):  # the other writer is done with it
        # Writable, because a network share locks no other; and not waiting for a pipe's reader.
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "wb") as stream:
            _lock(stream)
            if _is_at(part, stream):
                part.unlink()


def _lock(stream: BinaryIO) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise
    except OSError as error:
        # Some file systems have no locks. That is no reason to refuse an output on one: what
        # the lock is to prevent there, `commit` still finds.
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            stream.close()
            raise


def _is_at(path: Path, stream: BinaryIO) -> bool:
    """Whether the open file is the one that bears this name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
