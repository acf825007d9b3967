"""The stream that a run's progress goes to, which may be missing, or close in the middle."""

from __future__ import annotations

import io
from typing import TextIO


class Screen(io.TextIOBase):
    """A text stream that falls silent, once and for all, when it cannot be written.

    Progress is told in the middle of the work, and nobody being there to read it is no reason to
    end that work.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the type stubs
        """What rich chooses its characters by."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def write(self, text: str) -> int:
        """Writes and flushes, where that is still possible."""
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # the reader is gone; or the stream was closed here
                self._stream = None
        return len(text)
