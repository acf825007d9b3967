from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gptflow.data.sources.files import FileSource, InputFile, format_of
from gptflow.data.sources.source import first_columns
from gptflow.errors import DataError

Write = Callable[..., FileSource]


def test_several_files_are_one_source_with_each_its_own_format(source: Write) -> None:
    both = source(b__jsonl='\n{"id": 1}\n', a__csv="id,text\n2,x\n", c__txt="y")

    found = [(r.number, r.columns, r.file, r.line) for r in both.records()]

    assert found == [
        (0, {"id": 1}, "b.jsonl", 2),
        (1, {"id": "2", "text": "x"}, "a.csv", 2),
        (2, {"text": "y"}, "c.txt", 1),
    ]
    assert first_columns(both) == ["id", "text"]


def test_wanted_numbers_run_through_all_files(source: Write) -> None:
    both = source(a__txt="0\n1\n", b__txt="2\n3\n")

    assert [record.columns["text"] for record in both.records(only=[1, 3])] == ["1", "3"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jsonl", "jsonl"), ("a.JSON.GZ", "json"), ("a.b.tsv.zst", "tsv"), ("x.txt", "txt")],
)
def test_the_name_tells_the_format(name: str, expected: str) -> None:
    assert format_of(Path(name)) == expected


@pytest.mark.parametrize("name", ["rows", "rows.orc", "rows.gz", "jsonl"])
def test_a_name_that_tells_no_format_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match=r"Hint: add source\.format: one of jsonl, json"):
        format_of(Path(name))


def test_a_given_format_wins_over_the_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text('{"a": 1}')

    assert first_columns(FileSource([InputFile.of(path, "jsonl")])) == ["a"]


def test_a_packed_file_with_an_upper_case_name_is_unpacked(
    source: Write, pack: Callable[[bytes, str], bytes]
) -> None:
    assert first_columns(source(A__TXT__GZ=pack(b"x", ".gz"), B__TXT__ZST=pack(b"", ".zst")))


def test_messages_name_a_file_as_seen_from_here(source: Write) -> None:
    broken = source(bad__jsonl="{]")

    with pytest.raises(DataError, match=r"^bad\.jsonl:1: "):
        list(broken.records())


def test_the_fingerprint_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        FileSource([InputFile.of(tmp_path / "gone.txt")]).fingerprint()
