"""The rows that failed, beside the output: what each was, why it failed, and the last reply."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from gptflow.data.json_text import encoded, members
from gptflow.records import RowResult
from gptflow.spec.companion import failed_path

__all__ = ["FailedSink", "failed_path", "remove_failed"]

ERROR_KEYS = ("kind", "message", "step", "status", "code", "attempts", "history")
"""What `error` tells of a records.Failure."""

_BEGINNING = b'{"row":'


class FailedSink:
    """Writes one JSON object a line: `row` as it was read, `error`, and the last `reply` or null.

    `error` has kind, message, step, status, code, attempts and history, as in `records.Failure`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, result: RowResult) -> None:
        """Append a row that failed."""
        assert result.failure is not None
        error = {name: getattr(result.failure, name) for name in ERROR_KEYS}
        row = _BEGINNING + result.raw
        self._stream.write(
            row
            + b',"error":'
            + encoded(error)
            + b',"reply":'
            + encoded(result.failure.reply)
            + b"}\n"
        )

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._stream.flush()

    def finish(self) -> None:
        """Flush: the format has no end of its own."""
        self._stream.flush()


def remove_failed(path: Path) -> None:
    """Remove the failed rows of an earlier run. A file that FailedSink did not write stays."""
    if path.is_file() and _is_ours(path):
        path.unlink()


def _is_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        # The rest of the line is read only where it can be ours: a line may be as long as a file.
        if stream.read(len(_BEGINNING)) != _BEGINNING:
            return False
        line = _BEGINNING + stream.readline()
    try:
        return list(members(line)) == ["row", "error", "reply"]
    except ValueError:
        return False
