from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptflow.data.sinks.whole import WholeFile
from gptflow.errors import OutputError, UsageError


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_the_output_appears_whole_when_it_is_committed(tmp_path: Path) -> None:
    output = tmp_path / "out" / "labels.jsonl"
    whole = WholeFile(output)
    whole.stream.write(b"rows")
    whole.stream.flush()

    assert (tmp_path / "out" / "labels.jsonl.part").read_bytes() == b"rows"
    assert not output.exists()

    whole.commit()

    assert output.read_bytes() == b"rows"
    assert names(output.parent) == ["labels.jsonl"]


def test_an_older_output_stays_until_then(tmp_path: Path) -> None:
    output = tmp_path / "x.csv"
    output.write_text("old")
    whole = WholeFile(output)
    whole.stream.write(b"new")

    assert output.read_text() == "old"
    whole.commit()
    assert output.read_text() == "new"


def test_abandoned_it_leaves_nothing_and_the_older_output(tmp_path: Path) -> None:
    output = tmp_path / "x.csv"
    output.write_text("old")
    whole = WholeFile(output)
    whole.stream.write(b"new")

    whole.abandon()

    assert names(tmp_path) == ["x.csv"]
    assert output.read_text() == "old"


def test_without_a_commit_the_part_is_left_for_a_look(tmp_path: Path) -> None:
    with WholeFile(tmp_path / "x.csv") as whole:
        whole.stream.write(b"rows so far")

    assert names(tmp_path) == ["x.csv.part"]
    assert whole.part.read_bytes() == b"rows so far"


def test_committed_in_a_with_block_it_stays_committed(tmp_path: Path) -> None:
    with WholeFile(tmp_path / "x.csv") as whole:
        whole.commit()

    assert names(tmp_path) == ["x.csv"]


def test_a_part_that_was_left_is_begun_anew_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "x.csv.part").symlink_to(tmp_path / "precious")

    WholeFile(tmp_path / "x.csv").commit()

    assert (tmp_path / "precious").read_text() == "keep"
    assert (tmp_path / "x.csv").read_bytes() == b""


def test_a_second_writer_of_the_same_output_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    output = tmp_path / "x.csv"
    first = WholeFile(output)
    first.stream.write(b"first")

    with pytest.raises(UsageError, match=rf"x\.csv: cannot be written: process {os.getpid()} is"):
        WholeFile(output)

    first.commit()
    assert output.read_bytes() == b"first"
    WholeFile(output).abandon()


def test_the_writer_may_be_another_process_and_its_part_is_free_when_it_dies(
    tmp_path: Path,
) -> None:
    output = tmp_path / "x.csv"
    code = (
        "import sys, pathlib; from gptflow.data.sinks.whole import WholeFile;"
        "whole = WholeFile(pathlib.Path(sys.argv[1])); whole.stream.write(b'half');"
        "whole.stream.flush(); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(UsageError, match=f"process {writer.pid} is writing it"):
            WholeFile(output)
        writer.kill()

    assert (tmp_path / "x.csv.part").read_bytes() == b"half"
    WholeFile(output).commit()
    assert output.read_bytes() == b""


def test_a_part_that_was_replaced_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("old")
    whole = WholeFile(tmp_path / "x.csv")
    whole.part.unlink()
    whole.part.write_text("somebody else's")

    with pytest.raises(OutputError, match=r"x\.csv\.part was removed or replaced"):
        whole.commit()
    whole.abandon()

    assert (tmp_path / "x.csv").read_text() == "old"
    assert whole.part.read_text() == "somebody else's"


def test_a_pipe_or_a_hard_link_at_the_parts_name_is_begun_anew(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    os.mkfifo(tmp_path / "x.csv.part")
    (tmp_path / "y.csv.part").hardlink_to(precious)

    WholeFile(tmp_path / "x.csv").commit()
    WholeFile(tmp_path / "y.csv").commit()

    assert sorted(names(tmp_path)) == ["precious", "x.csv", "y.csv"]
    assert all((tmp_path / name).is_file() for name in ("x.csv", "y.csv"))
    assert precious.read_text() == "keep"


def test_a_link_at_the_output_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "x.csv").symlink_to(tmp_path / "real" / "y.csv")
    whole = WholeFile(tmp_path / "x.csv")
    whole.stream.write(b"new")

    whole.commit()

    assert (tmp_path / "x.csv").is_symlink()
    assert (tmp_path / "real" / "y.csv").read_bytes() == b"new"


def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        WholeFile(tmp_path / "x.csv").commit()
    finally:
        os.umask(old)

    assert (tmp_path / "x.csv").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "it is a folder"),
        ("pipe", "it is not a regular file"),
        ("file/x.csv", "its folder is a file"),
    ],
)
def test_a_place_that_takes_no_file_is_an_error(tmp_path: Path, output: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match=f"cannot be written: ({why})"):
        WholeFile(tmp_path / output)
