"""Rows out of the pages of a damaged database, read without SQLite.

SQLite finds a row through the pages above it, and gives up where one of them is damaged. Here each
page that looks like a leaf of a table is taken by itself, in the file and in its log; whose rows
they are, their shape has to tell. The format: https://sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Self

from gptflow.store.log import FRAME_HEADER, PAGE_SIZES, USUAL_PAGE, frames, log_of

Value = None | int | float | str | bytes
RawRow = tuple[int, list[Value]]
"""A rowid and the row's values. The column that is the rowid itself is stored as None."""

_LEAF = 0x0D
_LARGEST_ROW = 1 << 30
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


class Damaged(ValueError):
    """What stands there is no row."""


class Pages:
    """The pages of a database file and its log, as far as they are there."""

    def __init__(self, path: Path) -> None:
        self._open = ExitStack()
        self._file = self._opened(path)
        self._log = self._opened(log_of(path))
        self._page_bytes = self._size()
        self._frames = dict(self._frames_of_log())
        self._pages = len(self._frames) + self._length(self._file) // self._page_bytes

    def close(self) -> None:
        """Close the files."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self) -> Iterator[RawRow]:
        """Every row that can be read of every page, the log's first: they are newer.

        A row that was changed may come several times.
        """
        for offset in self._frames.values():
            yield from self._rows_of(self._read(self._log, offset), 0)
        for number in range(1, self._length(self._file) // self._page_bytes + 1):
            page = self._read(self._file, (number - 1) * self._page_bytes)
            yield from self._rows_of(page, 100 if number == 1 else 0)

    def _opened(self, path: Path) -> BinaryIO | None:
        try:
            return self._open.enter_context(path.open("rb"))
        except FileNotFoundError:
            return None

    def _size(self) -> int:
        """The size of a page, as the file says, else the log, else the one that is usual."""
        head = self._read(self._file, 16, 2) if self._file else b""
        stored = int.from_bytes(head, "big")
        said = (65536 if stored == 1 else stored) if len(head) == 2 else 0
        if said not in PAGE_SIZES and self._log is not None:
            said = int.from_bytes(self._read(self._log, 8, 4), "big")
        return said if said in PAGE_SIZES else USUAL_PAGE

    def _frames_of_log(self) -> Iterator[tuple[int, int]]:
        """Each page of the log: its number, and where its last copy begins.

        What was never committed counts too: a reply is paid all the same.
        """
        if self._log is not None:
            with suppress(OSError):  # its disk cannot read the rest
                for start, header in frames(self._log, self._page_bytes):
                    yield int.from_bytes(header[:4], "big"), start + FRAME_HEADER

    def _rows_of(self, page: bytes, start: int) -> Iterator[RawRow]:
        if len(page) < start + 8 or page[start] != _LEAF:
            return
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        for place in range(start + 8, min(start + 8 + 2 * cells, len(page) - 1), 2):
            try:
                yield self._row(page, int.from_bytes(page[place : place + 2], "big"))
            except (Damaged, IndexError, UnicodeDecodeError, struct.error):
                continue

    def _row(self, page: bytes, at: int) -> RawRow:
        payload_bytes, at = _varint(page, at)
        rowid, at = _varint(page, at)
        usable = self._page_bytes
        if not 0 <= payload_bytes <= min(_LARGEST_ROW, self._pages * usable):
            raise Damaged
        if payload_bytes <= usable - 35:
            return rowid, _values(page[at : at + payload_bytes])
        least = (usable - 12) * 32 // 255 - 23
        local = least + (payload_bytes - least) % (usable - 4)
        local = local if local <= usable - 35 else least
        payload = bytearray(page[at : at + local])
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        seen: set[int] = {0}
        while len(payload) < payload_bytes:
            if following in seen:  # 0 is no page, and a chain has no circle
                raise Damaged
            seen.add(following)
            following = self._overflow(following, payload)
        return rowid, _values(bytes(payload[:payload_bytes]))

    def _overflow(self, number: int, payload: bytearray) -> int:
        """Append what a page continues a row with; the number of the page after it."""
        page = self._page(number)
        if len(page) < self._page_bytes:
            raise Damaged
        payload += page[4:]
        return int.from_bytes(page[:4], "big")

    def _page(self, number: int) -> bytes:
        if number in self._frames:
            return self._read(self._log, self._frames[number])
        return self._read(self._file, (number - 1) * self._page_bytes)

    def _read(self, stream: BinaryIO | None, offset: int, count: int = 0) -> bytes:
        if stream is None or offset < 0:
            return b""
        try:
            stream.seek(offset)
            return stream.read(count or self._page_bytes)
        except OSError:  # its disk cannot read it
            return b""

    @staticmethod
    def _length(stream: BinaryIO | None) -> int:
        return 0 if stream is None else stream.seek(0, 2)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    number = 0
    for place in range(at, at + 8):
        number = number << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return number, place + 1
    number = number << 8 | data[at + 8]
    return number - (1 << 64 if number >> 63 else 0), at + 9


def _values(payload: bytes) -> list[Value]:
    """The values of a record: a header of their types, then their bytes."""
    header_bytes, at = _varint(payload, 0)
    if not at <= header_bytes <= len(payload):
        raise Damaged
    kinds = []
    while at < header_bytes:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload):
        raise Damaged
    return values


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    """One value of a serial type, and where it ends."""
    if kind >= 12:
        end = at + (kind - 12) // 2
        return (payload[at:end].decode() if kind % 2 else payload[at:end]), end
    if kind == 0:
        return None, at
    if kind == 7:
        return struct.unpack_from(">d", payload, at)[0], at + 8
    if kind in (8, 9):
        return kind - 8, at
    if kind > 6 or kind < 0:
        raise Damaged
    end = at + _INTEGER_BYTES[kind]
    return int.from_bytes(payload[at:end], "big", signed=True), end
