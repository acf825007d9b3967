"""A multipart body, taken apart while it comes: an upload of 200 MB is never searched at once."""

from __future__ import annotations

import re

import msgspec

_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary="?([^";]+)"?', re.IGNORECASE)
_PARAMETER = re.compile(rb'; *(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class Part(msgspec.Struct, frozen=True):
    """One field of a form."""

    content: bytearray
    filename: str | None = None


class Form:
    """A form as far as it has come. Give it each chunk; ask it when the last one was there."""

    def __init__(self, content_type: str) -> None:
        found = _BOUNDARY.match(content_type)
        self._border = b"\r\n--" + found[1].encode("latin-1") if found else None
        self._open = bytearray(b"\r\n")  # so that the first border looks like the others
        self._begun = False
        self.parts: dict[str, Part] = {}

    @property
    def is_whole(self) -> bool:
        """Whether the last border has come, which says that it is the last."""
        return self._begun and self._open.startswith(b"--")

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if self._border is None:
            return
        searched = max(0, len(self._open) - len(self._border))
        self._open += chunk
        while (place := self._open.find(self._border, searched)) >= 0:
            following = self._open[place + len(self._border) :]
            del self._open[place:]
            if self._begun:
                self._close(self._open)
            self._open, self._begun, searched = following, True, 0

    def _close(self, part: bytearray) -> None:
        """Keep a part that has ended, without a copy of its content."""
        end = part.find(b"\r\n\r\n")
        if end < 0:
            return
        told = dict(_PARAMETER.findall(bytes(part[:end])))
        del part[: end + 4]
        name = told.get(b"name")
        if name is not None:
            filename = told.get(b"filename")
            self.parts[name.decode("utf-8", "replace")] = Part(part, filename and _text(filename))


def _text(filename: bytes) -> str:
    return filename.replace(b"%22", b'"').decode("utf-8", "replace")
