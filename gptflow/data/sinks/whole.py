"""An output file that is whole or absent: it grows beside its place, and moves there at the end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from gptflow.errors import UsageError


class WholeFile:
    """A file that is written as `<output>.part` and renamed over the output when it is complete.

    As a context manager it closes the part and leaves it, unless it was committed: after an
    interruption the rows that are done can be looked at there.
    """

    path: Path
    """The output. Where it is a link, what the link points to: the link stays a link."""
    part: Path
    """The file that grows, beside `path`."""
    stream: BinaryIO
    """Writes to `part`."""

    def __init__(self, output: Path) -> None:
        """Begin the part; one that an interrupted run has left is dropped.

        Raises:
            UsageError: the output cannot be written there.
        """
        self.path = Path(os.path.realpath(output))
        self.part = self.path.with_name(self.path.name + ".part")
        if self.path.exists() and not self.path.is_file():
            kind = "a folder" if self.path.is_dir() else "not a regular file"
            raise UsageError(f"{output}: cannot be written: it is {kind}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.part.unlink(missing_ok=True)
            # "x": whatever appears at this name in between is not written through.
            self.stream = self.part.open("xb")
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{output}: cannot be written: its folder is a file") from None
        except OSError as error:
            raise UsageError(f"{output}: cannot be written: {error.strerror}") from None

    def commit(self) -> None:
        """Put the part in the output's place. On return this outlives a power cut."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        self.part.replace(self.path)
        _sync_folder(self.path.parent)

    def abandon(self) -> None:
        """Remove the part. The output stays what it was."""
        self._close()
        self.part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        # Closing writes what is buffered: on a full disk it fails once more, which is no news.
        with suppress(OSError):
            self.stream.close()


def _sync_folder(folder: Path) -> None:
    # The new name is an entry of the folder: without this, a power cut may bring the old one back.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
