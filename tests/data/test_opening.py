from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from gptflow.data.sources.opening import RECORD_BYTES, lines, opened
from gptflow.errors import DataError

Pack = Callable[[bytes, str], bytes]


def content(path: Path) -> bytes:
    with opened(path, path.name) as stream:
        return stream.read()


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_packed_files_in_several_parts_are_read_to_the_end(
    tmp_path: Path, pack: Pack, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    parts = [os.urandom(300_000), b"", b"tail"]
    path.write_bytes(b"".join(pack(part, suffix) for part in parts))

    assert content(path) == b"".join(parts)


def test_garbage_behind_packed_data_is_an_error(tmp_path: Path, pack: Pack) -> None:
    path = tmp_path / "x.zst"
    path.write_bytes(pack(b"data", ".zst") + b"garbage")

    with pytest.raises(DataError, match=r"^x\.zst: cannot be read: zstd"):
        content(path)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ("text".encode("utf-16"), "UTF-16 text"),
        (b"\x1f\x8b\x08\x00", "gzip data"),
        (b"\x28\xb5\x2f\xfd", "Zstandard data"),
        (b"PK\x03\x04", "a zip archive"),
        (b"PAR1\x15", "a Parquet file"),
        ("text".encode("utf-16-le"), "UTF-16 text"),
        ("text".encode("utf-16-be"), "UTF-16 text"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_a_file_of_a_foreign_kind_is_named_as_that(tmp_path: Path, start: bytes, kind: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(start + b"....")

    with pytest.raises(DataError, match=rf"^x\.csv: looks like {kind}(.|\n)*Hint: "):
        content(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^gone\.txt: no such file"):
        content(tmp_path / "gone.txt")


def test_a_folder_is_an_error_with_the_pattern_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder(.|\n)*\*\.jsonl"):
        content(tmp_path)


def test_a_pipe_is_an_error_since_it_cannot_be_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(DataError, match=r'not a regular file(.|\n)*read as "-"'):
        content(tmp_path / "pipe")


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match=r"^x\.txt: cannot be read: Not a directory"):
        content(tmp_path / "file" / "x.txt")


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0\0\0\0\0", b"a\0b\n", b"\0"])
def test_zeros_alone_are_no_utf16(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.txt").write_bytes(data)

    assert content(tmp_path / "x.txt") == data


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_is_unpacked_in_pieces(tmp_path: Path, pack: Pack, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(pack(b"\0" * 60_000_000, suffix))

    tracemalloc.start()
    with opened(path, path.name) as stream:
        size = sum(len(piece) for piece in iter(lambda: stream.read(1 << 16), b""))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size == 60_000_000
    assert peak_bytes < 25_000_000


def test_the_longest_line_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    for size, ended in ((RECORD_BYTES - 1, b"\n"), (RECORD_BYTES, b"")):
        (tmp_path / "x").write_bytes(b"x" * size + ended)
        with opened(tmp_path / "x", "x") as stream:
            assert [len(line) for _, line in lines(stream, "x")] == [RECORD_BYTES]
    (tmp_path / "x").write_bytes(b"first\n" + b"x" * (RECORD_BYTES + 1))
    with (
        opened(tmp_path / "x", "x") as stream,
        pytest.raises(DataError, match=r"^x:2: the record is longer than 64 MiB"),
    ):
        list(lines(stream, "x"))
