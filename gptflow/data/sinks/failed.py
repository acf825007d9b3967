"""The rows that failed, beside the output: what each was, why it failed, and the last reply."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from gptflow.data.json_text import encoded
from gptflow.records import RowResult


def failed_path(output: Path) -> Path:
    """Where the failed rows of an output go: labels.failed.jsonl for labels.csv."""
    return output.with_name(f"{output.stem}.failed.jsonl")


class FailedSink:
    """Writes one JSON object a line: `row` as it was read, `error`, and the last `reply` or null.

    `error` has kind, message, step, status, code and attempts, as in `records.Failure`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, result: RowResult) -> None:
        """Append a row that failed."""
        assert result.failure is not None
        error = msgspec.structs.asdict(result.failure)
        reply = error.pop("reply")
        row = b'{"row":' + result.raw
        self._stream.write(
            row + b',"error":' + encoded(error) + b',"reply":' + encoded(reply) + b"}\n"
        )

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._stream.flush()

    def finish(self) -> None:
        """Flush: the format has no end of its own."""
        self._stream.flush()
