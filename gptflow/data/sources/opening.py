"""What an input file holds: plain, .gz or .zst, without a byte order mark; errors name it."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gptflow.data.excerpt import data_error, not_utf8
from gptflow.errors import DataError

if TYPE_CHECKING:
    import zstandard
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 1 << 18
RECORD_BYTES = 1 << 26
"""The longest record. Without a bound, a few packed megabytes of zeros would fill the memory, and
a quote that is never closed would take the rest of the file."""

COMPRESSED_CHUNK_BYTES = 1 << 8
"""Read at once from a .zst file. All that it unpacks to is held in memory, and that is up to
32,768 times as much: four bytes can stand for a block of 128 KiB."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

PARQUET = b"PAR1"

UTF_16 = ("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE")

FOREIGN_STARTS = {
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"\x1f\x8b": ("gzip data", "give the file a name that ends in .gz, or unpack it: zcat"),
    b"\x28\xb5\x2f\xfd": (
        "Zstandard data",
        "give the file a name that ends in .zst, or unpack it: zstdcat",
    ),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save it as CSV"),
    PARQUET: ("a Parquet file", "give the file a name that ends in .parquet"),
    b"SQLite format 3\0": ("an SQLite database", "export the table as CSV"),
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "git lfs pull"),
}
"""First bytes of what is often taken for a text file: what it is, and what to do about it."""

PACKED = {".gz": "gzip data", ".zst": "Zstandard data"}


@contextmanager
def opened(path: Path, name: str, start: bytes = b"") -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked; errors call it `name`.

    `start`: how the file is to begin, where that is foreign to text.

    Raises:
        DataError: on entry, the file cannot be opened or is of a foreign kind; later, in the body,
            it cannot be read to its end.
    """
    try:
        with _unpacked(path, name) as stream:
            _check_start(stream, name, start)
            yield stream
    except FileNotFoundError:
        raise DataError(
            f"{name}: no such file", hint="source.path is relative to the spec file"
        ) from None
    except EOFError:
        raise DataError(
            f"{name}: the compressed data is cut off", hint="the file is incomplete: copy it again"
        ) from None
    except (OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name}: cannot be read: {reason}", hint=_mend(path, error)) from None


def _mend(path: Path, error: Exception) -> str | None:
    """What to do about a file that cannot be read."""
    if getattr(error, "strerror", None):  # the system's own word, such as "Permission denied"
        return None
    kind = PACKED.get(path.suffix.lower(), "data")
    return f"it is no {kind}, or damaged: copy it again, or give it a name that tells what it is"


def _unpacked(path: Path, name: str) -> io.BufferedReader:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise DataError(
            f"{name}: is {kind}",
            hint='a pattern takes all files of a folder: "data/*.jsonl"; a pipe is read as "-"',
        )
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(path), BUFFER_BYTES)
    if suffix == ".zst":
        return io.BufferedReader(_ZstdBytes(path.open("rb")), BUFFER_BYTES)
    return io.BufferedReader(io.FileIO(path), BUFFER_BYTES)


def _check_start(stream: io.BufferedReader, name: str, wanted: bytes) -> None:
    start = stream.peek(8)
    if wanted and start.startswith(wanted):
        return
    if _looks_like_utf16(start[:8]):
        start = b"\xff\xfe"
    for foreign, (kind, hint) in FOREIGN_STARTS.items():
        if start.startswith(foreign):
            raise DataError(f"{name}: looks like {kind}", hint=hint)
    if start.startswith(BYTE_ORDER_MARK):
        stream.read(len(BYTE_ORDER_MARK))


def _looks_like_utf16(start: bytes) -> bool:
    """Whether every second byte is zero, as in English text without a byte order mark."""
    return len(start) == 8 and b"\0\0\0\0" in (start[::2], start[1::2]) and any(start)


def lines(stream: io.BufferedReader, file: str, first: int = 1) -> Iterator[tuple[int, bytes]]:
    """The lines with their ends, numbered from `first`. Only LF ends one; the last needs no end.

    Raises:
        DataError: one is longer than any record may be.
    """
    for number, line in enumerate(iter(partial(stream.readline, RECORD_BYTES + 1), b""), first):
        if len(line) > RECORD_BYTES:
            raise too_long((file, number))
        yield number, line


def too_long(place: tuple[str, int], cause: str = "") -> DataError:
    """The error for a record, beginning at `place`, that is longer than any may be."""
    what = f"the record is longer than {RECORD_BYTES >> 20} MiB{cause}"
    return data_error(place, what, hint="split it into several rows")


def utf8(data: bytes, place: tuple[str, int]) -> str:
    """The bytes as text.

    Raises:
        DataError: they are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(error, place) from None


class _ZstdBytes(io.RawIOBase):
    """A .zst file, unpacked. zstandard's own stream_reader takes a cut-off file for a whole one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._ready:
            if not self._unpack():
                return 0
        view = memoryview(buffer)
        size = min(len(view), len(self._ready))
        view[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _unpack(self) -> bool:
        import zstandard

        packed = self._packed or self._file.read(COMPRESSED_CHUNK_BYTES)
        if not packed and self._frame is not None:
            raise EOFError
        if not packed:
            return False
        frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
        try:
            self._ready = memoryview(frame.decompress(packed))
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from None
        self._packed = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
