"""Whether a store's log is whole.

SQLite takes it up to the first frame that does not fit, and drops all behind it without a word:
rightly so after a power cut, and at a price if a page of it is damaged. The format: https://sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_HEADER, FRAME_HEADER = 32, 24
_LITTLE_ENDIAN = 0x377F0682
PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
USUAL_PAGE = 4096
"""What a new store has."""
TORN = 1
"""Commits behind a bad frame that a power cut explains: each later one began after a sync."""


def log_of(path: Path) -> Path:
    """The write-ahead log beside a store's file."""
    return path.with_name(path.name + "-wal")


def commits_behind(path: Path, valid: int) -> int:
    """How many commits stand in the log behind its first `valid` frames."""
    with suppress(FileNotFoundError), log_of(path).open("rb") as log:
        headers = [header for _, header in frames(log, _page_bytes(path))]
        return sum(any(header[4:8]) for header in headers[valid:])
    return 0


def frames(log: BinaryIO, page_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Where each frame of the log's latest round begins, with its header."""
    step = FRAME_HEADER + page_bytes
    starts = range(_HEADER, log.seek(0, 2) - step + 1, step)
    salts = _salts(log, [start + 8 for start in starts[:3]])
    for start in starts:
        log.seek(start)
        header = log.read(FRAME_HEADER)
        if header[8:16] == salts:  # others are left of an earlier round
            yield start, header


def _salts(log: BinaryIO, places: list[int]) -> bytes:
    """What marks all of one round: what the header says, or most if that is damaged.

    A process may die between the header of a new round and its first frame.
    """
    log.seek(0)
    header = log.read(_HEADER)
    found = [header[16:24]]
    if _start(header) is not None:
        return found[0]
    for place in places:
        log.seek(place)
        found.append(log.read(8))
    return max(found, key=found.count)


def _start(header: bytes) -> tuple[str, tuple[int, int]] | None:
    """In which order the log's words are summed, and the sums so far; None for a damaged header."""
    if len(header) < _HEADER:
        return None
    order = "little" if int.from_bytes(header[:4], "big") == _LITTLE_ENDIAN else "big"
    sums = _sums(header[:24], order, (0, 0))
    return (order, sums) if _stored(sums) == header[24:32] else None


def valid_frames(path: Path) -> int:
    """How many frames of the log fit to those before them. Takes 0.1 s for a megabyte."""
    page_bytes = _page_bytes(path)
    with suppress(FileNotFoundError), log_of(path).open("rb") as log:
        header = log.read(_HEADER)
        start = _start(header)
        if start is None:
            return 0
        order, sums = start
        valid = 0
        for frame in _whole_frames(log, page_bytes):
            sums = _sums(frame[:8] + frame[FRAME_HEADER:], order, sums)
            if frame[8:16] != header[16:24] or _stored(sums) != frame[16:24]:
                break
            valid += 1
        return valid
    return 0


def _page_bytes(path: Path) -> int:
    """The size of a page, as the log says; if that is damaged, the usual one."""
    with suppress(FileNotFoundError), log_of(path).open("rb") as log:
        said = int.from_bytes(log.read(12)[8:], "big")
        if said in PAGE_SIZES:
            return said
    return USUAL_PAGE


def _whole_frames(log: BinaryIO, page_bytes: int) -> Iterator[bytes]:
    while len(frame := log.read(FRAME_HEADER + page_bytes)) == FRAME_HEADER + page_bytes:
        yield frame


def _stored(sums: tuple[int, int]) -> bytes:
    return sums[0].to_bytes(4, "big") + sums[1].to_bytes(4, "big")


def _sums(data: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """SQLite's checksum, gone on with."""
    words = array("I", data)
    if order == "big":
        words.byteswap()
    first, second = before
    evens, odds = words[::2], words[1::2]
    for even, odd in zip(evens, odds, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
