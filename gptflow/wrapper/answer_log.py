"""A worker's file of a single round, while it is written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gptflow.errors import OutputError
from gptflow.wrapper.round_line import Item, line_of


class AnswerLog:
    """A worker's file, being written: an answer is with the operating system when it is added."""

    def __init__(self, path: Path) -> None:
        """Go on with a file, or begin it.

        Raises:
            OutputError: it cannot be written.
        """
        self._path = path
        try:
            is_torn = not _ends_line(path)
            self._stream = path.open("ab")
        except OSError as error:
            raise unwritable(path, error) from None
        self._before = b"\n" if is_torn else b""  # the next answer needs a line of its own

    def add(self, item: Item, response: Any) -> None:
        """Writes an answer.

        Raises:
            OutputError: it cannot be written, in whole at least.
        """
        try:
            self._stream.write(self._before + line_of(item, response, counts_itself=False))
            self._stream.flush()
            self._before = b""
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
        with suppress(OSError):  # after a failed write closing fails once more, which is no news
            self._stream.close()


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file of a round that cannot be written."""
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}",
        hint="make room, or choose another fout; what is answered is kept in the workers' files "
        "beside it, and the same call goes on from there",
    )


def _ends_line(path: Path) -> bool:
    """Whether a file is empty, or not there, or its last line is whole."""
    with suppress(FileNotFoundError), path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"
    return True
