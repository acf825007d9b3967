from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gptflow.data.sources.opening import opened
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
