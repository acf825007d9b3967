from __future__ import annotations

import io
import os
import resource
from pathlib import Path

import pytest

from gptflow.data.sources.source import open_files
from gptflow.errors import DataError

LINES = b'{"a": 1}\n{"a": 2}\n'


def test_standard_input_is_read_as_often_as_needed(tmp_path: Path) -> None:
    source = open_files([Path("-")], spool_folder=tmp_path / "store", stdin=io.BytesIO(LINES))

    for _ in range(2):
        assert [record.columns for record in source.records()] == [{"a": 1}, {"a": 2}]


def test_the_same_standard_input_is_the_same_source(tmp_path: Path) -> None:
    first, again, other = (
        open_files([Path("-")], spool_folder=tmp_path, stdin=io.BytesIO(data)).fingerprint()
        for data in (LINES, LINES, LINES + LINES)
    )

    assert first == again != other
    assert len(list(tmp_path.iterdir())) == 2


def test_the_copy_is_private(tmp_path: Path) -> None:
    open_files([Path("-")], spool_folder=tmp_path, stdin=io.BytesIO(LINES))

    (copy,) = tmp_path.iterdir()
    assert copy.stat().st_mode & 0o777 == 0o600


def test_standard_input_may_have_another_format_and_company(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("from the file")
    paths = [Path("-"), tmp_path / "x.txt"]

    source = open_files(paths, "txt", spool_folder=tmp_path, stdin=io.BytesIO(b"from stdin\n"))

    assert [record.columns["text"] for record in source.records()] == [
        "from stdin",
        "from the file",
    ]


def test_errors_in_standard_input_are_named_as_such(tmp_path: Path) -> None:
    source = open_files([Path("-")], spool_folder=tmp_path, stdin=io.BytesIO(LINES + b"{"))

    with pytest.raises(DataError, match=r"^stdin:3: not valid JSON"):
        list(source.records())


def test_standard_input_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, f"no {size} bytes")

    with pytest.raises(DataError, match="standard input, which broke off: no 1048576 bytes"):
        open_files([Path("-")], spool_folder=tmp_path, stdin=Broken())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["file", "file/stdin", "full/stdin"])
def test_a_folder_that_takes_no_copy_of_standard_input_is_told(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").symlink_to("/proc")

    with pytest.raises(DataError, match=f"cannot be copied to .*{folder}: ") as caught:
        open_files([Path("-")], spool_folder=tmp_path / folder, stdin=io.BytesIO(LINES))
    assert "put the rows into a file" in str(caught.value.hint)


def test_a_full_disk_is_told_and_no_half_of_standard_input_stays(tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, old[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be copied to .*: File too large"):
            open_files([Path("-")], spool_folder=tmp_path, stdin=io.BytesIO(b"x" * 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)

    assert list(tmp_path.iterdir()) == []


def test_a_terminal_is_no_source(tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    with (
        os.fdopen(controller),
        os.fdopen(terminal, "rb", buffering=0) as stdin,
        pytest.raises(DataError, match="standard input, and that is a terminal"),
    ):
        open_files([Path("-")], spool_folder=tmp_path, stdin=stdin)


def test_without_a_folder_for_the_copy_standard_input_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be read here"):
        open_files([Path("-")], stdin=io.BytesIO(LINES))
