"""A file that grows at its end: what was read before is known by its bytes, and not read twice.

Nothing is guessed from sizes or times: the hash is of the very bytes that the records came from.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from hashlib import blake2b
from io import BufferedReader
from typing import TYPE_CHECKING, Self, cast

from gptflow.data.record import Record
from gptflow.data.sources import jsonl, text
from gptflow.data.sources.files import FORMATS, FileSource, InputFile
from gptflow.data.sources.opening import BUFFER_BYTES, PACKED, opened
from gptflow.data.sources.source import Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HASHED_AT_ONCE = 1 << 20
LEAST_BYTES = 64
"""Its first bytes tell what kind of file it is: they must be among those that are known."""

SPLITS: dict[str, Callable[[BufferedReader, str, int], Iterator[tuple[int, bytes]]]] = {
    "jsonl": jsonl.split,
    "txt": text.split,
}
"""The formats in which any line may be the first that is read; one of CSV needs its header."""


class GrownFile:
    """One plain file of lines, for one walk: from its beginning, or from behind what is known."""

    def __init__(self, file: InputFile, basis: str) -> None:
        """`basis`: what else a record's row hangs on; proofs of another one do not hold."""
        self._file = file
        self._hash = blake2b(f"{file.format} {basis}\n".encode(), digest_size=16)
        self._known_bytes = 0
        self._known_lines = 0
        self._records = 0
        self._proof = ""

    @classmethod
    def of(cls, source: Source, basis: str) -> Self | None:
        """The file of a source, if it is a single one whose lines stand for themselves."""
        if not isinstance(source, FileSource) or len(source.files) != 1:
            return None
        (file,) = source.files
        if file.format not in SPLITS or file.path.suffix.lower() in PACKED:
            return None
        return cls(file, basis)

    @property
    def proof(self) -> str:
        """What to know the records by that a whole walk gave; empty where nothing proves them."""
        return self._proof

    def begins_with(self, proof: str, records: int) -> bool:
        """Whether the file begins with the bytes of a proof; those behind are read then.

        Args:
            proof: of an earlier walk, with the same basis.
            records: how many records the file had then.

        Raises:
            DataError: the file cannot be read.
        """
        size, told, _ = (*proof.split(":"), "", "")[:3]
        if not size.isdecimal() or told != str(records):
            return False
        found, lines = self._hash.copy(), 0
        for chunk in self._chunks(int(size)):
            found.update(chunk)
            lines += chunk.count(b"\n")
        if proof != _proof(int(size), records, found.hexdigest()):
            return False
        self._hash = found
        self._known_bytes, self._known_lines, self._records = int(size), lines, records
        return True

    def _chunks(self, size: int) -> Iterator[bytes]:
        """The first `size` bytes, or fewer."""
        with opened(self._file.path, self._file.name) as stream:
            stream.seek(0)
            while size and (chunk := stream.read(min(size, HASHED_AT_ONCE))):
                size -= len(chunk)
                yield chunk

    def records(self) -> Iterator[Record]:
        """The records behind those that are known, with their numbers and lines in the file.

        Raises:
            DataError: a record is broken, or the file cannot be read.
        """
        name, decode = self._file.name, FORMATS[self._file.format].decode
        with opened(self._file.path, name) as stream:
            hashed = self._hashed(stream)
            pieces = SPLITS[self._file.format](
                BufferedReader(hashed, BUFFER_BYTES), name, self._known_lines + 1
            )
            for line, piece in pieces:
                raw, columns = decode(piece, (name, line))
                yield Record(self._records, raw, columns, name, line)
                self._records += 1
        size = self._known_bytes + hashed.size
        if hashed.ends_a_line and size >= LEAST_BYTES:
            self._proof = _proof(size, self._records, hashed.hash.hexdigest())

    def _hashed(self, stream: BufferedReader) -> _HashedBytes:
        """What is still to be read of a file that was just opened."""
        mark_bytes = 0 if self._known_bytes else stream.tell()
        raw = cast("io.FileIO", stream.raw)
        raw.seek(self._known_bytes)
        hashed = _HashedBytes(raw, self._hash)
        if mark_bytes:
            hashed.read(mark_bytes)
        return hashed


def _proof(size: int, records: int, digest: str) -> str:
    return f"{size}:{records}:{digest}"


class _HashedBytes(io.RawIOBase):
    """The bytes of a file, hashed as they are read."""

    def __init__(self, raw: io.FileIO, hash_: blake2b) -> None:
        self.hash = hash_
        self.size = 0
        self._raw = raw
        self._last = b""
        self._has_ended = False
        self._went_on = False

    @property
    def ends_a_line(self) -> bool:
        """Whether the end was reached, behind a whole line, and stayed where it was.

        A file that goes on behind its end, as it is read, may have had a line cut in two.
        """
        return self._has_ended and not self._went_on and self._last == b"\n"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        count = self._raw.readinto(view) or 0
        if count == 0:
            self._has_ended = True
            return 0
        self._went_on |= self._has_ended
        self.hash.update(view[:count])
        self.size += count
        self._last = bytes(view[count - 1 : count])
        return count
