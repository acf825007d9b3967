from __future__ import annotations

from pathlib import Path

import pytest

from gptflow.data.sources.files import FileSource, InputFile
from gptflow.data.sources.grown import LEAST_BYTES, GrownFile
from gptflow.errors import DataError

LINES = "".join(f'{{"id": {number}, "text": "row {number}"}}\n' for number in range(5))
BASIS = "1"

Seen = tuple[int, int, bytes]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(content: str | bytes, name: str = "rows.jsonl") -> FileSource:
    path = Path(name).resolve()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return FileSource([InputFile.of(path)])


def one_file(source: FileSource, basis: str = BASIS) -> GrownFile:
    file = GrownFile.of(source, basis)
    assert file is not None
    return file


def walk(file: GrownFile) -> list[Seen]:
    return [(record.number, record.line, record.raw) for record in file.records()]


def proven(content: str | bytes, name: str = "rows.jsonl") -> tuple[str, int]:
    """The proof of a file that was walked, and how many records it had."""
    file = one_file(write(content, name))
    records = len(walk(file))
    return file.proof, records


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.txt"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"], ids=["plain", "mark", "blank lines"])
@pytest.mark.parametrize("added", [LINES, LINES[:-1], "\n" + LINES, ""])
def test_what_comes_behind_the_known_bytes_is_read_as_in_the_whole_file(
    name: str, start: str, added: str
) -> None:
    proof, records = proven(start + LINES, name)
    source = write(start + LINES + added, name)
    file = one_file(source)
    assert file.begins_with(proof, records)
    whole = [(record.number, record.line, record.raw) for record in source.records()]
    assert walk(file) == whole[records:]


def test_the_proof_of_a_file_that_was_continued_is_that_of_one_read_at_once() -> None:
    proof, records = proven("\ufeff" + LINES)
    file = one_file(write("\ufeff" + LINES + LINES))
    assert file.begins_with(proof, records)
    walk(file)
    assert (file.proof, 10) == proven("\ufeff" + LINES + LINES)


def test_a_whole_walk_gives_what_the_source_gives() -> None:
    source = write("\ufeff\n" + LINES + "\n" + LINES[:-1])
    file = one_file(source)
    assert [*file.records()] == [*source.records()]


@pytest.mark.parametrize(
    "content",
    [
        "[" + LINES[1:] + LINES,
        LINES[:-2] + "]\n" + LINES,
        LINES[:-1],
        LINES[:-1] + " \n" + LINES,
        "\n" + LINES + LINES,
        "",
    ],
    ids=["first byte", "last byte", "cut", "longer line", "shifted", "emptied"],
)
def test_other_bytes_are_not_those_that_are_known(content: str) -> None:
    proof, records = proven(LINES)
    assert not one_file(write(content)).begins_with(proof, records)


@pytest.mark.parametrize(
    "proof",
    ["", "x", "::", "1", "5:5:5", "-1:5:", "0:5:", "²:5:0", f"{10**30}:5:0"],
)
def test_what_is_no_proof_proves_nothing(proof: str) -> None:
    assert not one_file(write(LINES)).begins_with(proof, 5)


def test_a_proof_holds_for_as_many_records_the_same_format_and_basis_alone() -> None:
    proof, records = proven(LINES)
    source = write(LINES)
    assert one_file(source).begins_with(proof, records)
    assert not one_file(source).begins_with(proof, records - 1)
    assert not one_file(source, "other").begins_with(proof, records)
    assert not one_file(write(LINES, "rows.txt")).begins_with(proof, records)


def test_a_file_that_is_not_the_known_one_is_read_from_its_beginning() -> None:
    proof, records = proven(LINES)
    file = one_file(write(LINES[:-2] + " }\n" + LINES))
    assert not file.begins_with(proof, records)
    assert [number for number, _, _ in walk(file)] == list(range(10))
    assert file.proof == proven(LINES[:-2] + " }\n" + LINES)[0]


@pytest.mark.parametrize(
    "content", [LINES[:-1], LINES + '{"id": 9}', "{}\n" * (LEAST_BYTES // 3)], ids=repr
)
def test_without_a_last_line_end_or_with_a_few_bytes_there_is_no_proof(content: str) -> None:
    assert proven(content)[0] == ""


def test_a_walk_that_did_not_come_to_the_end_proves_nothing() -> None:
    file = one_file(write(LINES))
    next(file.records())
    assert file.proof == ""


def test_a_file_that_grows_behind_the_end_that_was_seen_proves_nothing() -> None:
    source = write(LINES + '{"id": 7, "text"')
    file = one_file(source)
    with pytest.raises(DataError, match=r"rows\.jsonl:6"):
        walk(file)
    assert file.proof == ""
    # The reader meets the end in the middle of the last line, which then goes on.
    file = one_file(write("a" * LEAST_BYTES + "\nb", "rows.txt"))
    seen = []
    for record in file.records():
        seen.append(record.raw)
        if len(seen) == 2:
            with Path("rows.txt").open("a") as grown:
                grown.write("c\n")
    assert seen[1:] == [b'{"text":"b"}', b'{"text":"c"}']
    assert file.proof == ""


def test_a_broken_line_behind_the_known_ones_is_named_by_its_place_in_the_file() -> None:
    proof, records = proven("\n" + LINES)
    file = one_file(write("\n" + LINES + LINES + "{broken\n"))
    assert file.begins_with(proof, records)
    with pytest.raises(DataError, match=r"rows\.jsonl:12"):
        walk(file)


def test_only_a_single_plain_file_of_lines_may_be_known_by_its_bytes() -> None:
    for name in ("rows.csv", "rows.json", "rows.jsonl.gz", "rows.txt.zst"):
        assert GrownFile.of(write("", name), BASIS) is None
    two = FileSource([InputFile.of(Path("a.jsonl")), InputFile.of(Path("b.jsonl"))])
    assert GrownFile.of(two, BASIS) is None
