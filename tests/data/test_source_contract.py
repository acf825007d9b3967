"""What every source does, whatever its format and packing."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gptflow.data.sources.files import FileSource, InputFile
from gptflow.data.sources.inline import InlineSource, RangeSource
from gptflow.data.sources.source import Source, first_columns, locate
from gptflow.errors import DataError

PACKINGS = ["", ".gz", ".zst"]
TEXTS = ["plain", "größer, 日本語 \U0001f600", 'a "quoted" one', " spaces ", "", "\u2028\x85"]
TABLE: list[dict[str, Any]] = [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]


def delimited(delimiter: str) -> str:
    lines = [["id", "text"], *(list(row.values()) for row in TABLE)]
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in line] for line in lines]
    return "\n".join(delimiter.join(line) for line in quoted)


WRITTEN = {
    "jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in TABLE),
    "json": json.dumps(TABLE, ensure_ascii=False, indent=1),
    "csv": delimited(","),
    "tsv": delimited("\t"),
    "txt": "\n".join([*TEXTS, ""]),
}
ROWS = dict.fromkeys([*WRITTEN, "parquet"], TABLE) | {"txt": [{"text": text} for text in TEXTS]}
FIRST_LINES = {"jsonl": 1, "json": 2, "csv": 2, "tsv": 2, "txt": 1, "parquet": 1}
LINES_A_ROW = {"jsonl": 1, "json": 4, "csv": 1, "tsv": 1, "txt": 1, "parquet": 1}

Pack = Callable[[bytes, str], bytes]


def packing_of(file: InputFile) -> str:
    return file.path.suffix if file.path.suffix in PACKINGS else ""


def content(name: str) -> bytes:
    if name != "parquet":
        return WRITTEN[name].encode()
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(TABLE), stream, row_group_size=2)
    return stream.getvalue()


def written(param: tuple[str, str], folder: Path, pack: Pack) -> InputFile:
    name, packing = param
    path = folder / f"rows.{name}{packing}"
    path.write_bytes(pack(content(name), packing))
    return InputFile.of(path)


TEXT_FILES = [(name, packing) for name in WRITTEN for packing in PACKINGS]


@pytest.fixture(params=[*TEXT_FILES, ("parquet", "")], ids="".join)
def file(request: pytest.FixtureRequest, tmp_path: Path, pack: Pack) -> InputFile:
    return written(request.param, tmp_path, pack)


@pytest.fixture(params=TEXT_FILES, ids="".join)
def text_file(request: pytest.FixtureRequest, tmp_path: Path, pack: Pack) -> InputFile:
    return written(request.param, tmp_path, pack)


@pytest.fixture(params=[(name, p) for name in WRITTEN for p in PACKINGS if p], ids="".join)
def packed_file(request: pytest.FixtureRequest, tmp_path: Path, pack: Pack) -> InputFile:
    return written(request.param, tmp_path, pack)


@pytest.fixture(params=["jsonl", "parquet", "rows", "range"])
def anything(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "rows":
        return InlineSource(TABLE, lambda number: ("spec.yaml", number + 1))
    if request.param == "range":
        return RangeSource(6, ("spec.yaml", 1))
    path = tmp_path / f"rows.{request.param}"
    path.write_bytes(content(request.param))
    return FileSource([InputFile.of(path)])


def test_gives_the_rows_in_order(file: InputFile) -> None:
    records = list(FileSource([file]).records())

    assert [record.columns for record in records] == ROWS[file.format]
    assert [record.number for record in records] == list(range(len(TEXTS)))


def test_the_raw_text_says_the_same_on_one_line(file: InputFile) -> None:
    for record in FileSource([file]).records():
        assert json.loads(record.raw) == record.columns
        assert b"\n" not in record.raw


def test_names_file_and_line_of_each_record(file: InputFile) -> None:
    first, step = FIRST_LINES[file.format], LINES_A_ROW[file.format]
    expected = [(file.name, first + n * step) for n in range(len(TEXTS))]

    assert [(record.file, record.line) for record in FileSource([file]).records()] == expected
    assert locate(FileSource([file]), [4, 0, 4]) == [expected[4], expected[0], expected[4]]


def test_tolerates_a_byte_order_mark(text_file: InputFile, pack: Pack) -> None:
    marked = b"\xef\xbb\xbf" + WRITTEN[text_file.format].encode()
    text_file.path.write_bytes(pack(marked, packing_of(text_file)))

    assert [record.columns for record in FileSource([text_file]).records()] == ROWS[
        text_file.format
    ]


def test_bytes_that_are_not_utf8_are_named_with_their_line(
    text_file: InputFile, pack: Pack
) -> None:
    broken = WRITTEN[text_file.format].encode().replace(b"spaces", b"sp\xe4ces")
    text_file.path.write_bytes(pack(broken, packing_of(text_file)))
    line = broken[: broken.index(b"\xe4")].count(b"\n") + 1

    with pytest.raises(DataError, match="not UTF-8: byte 0xe4") as caught:
        list(FileSource([text_file]).records())

    assert str(caught.value).startswith(f"{text_file.name}:{line}: ")
    assert "sp\\xe4ces" in str(caught.value)


def test_a_cut_off_packed_file_is_an_error_not_a_shorter_source(packed_file: InputFile) -> None:
    packed_file.path.write_bytes(packed_file.path.read_bytes()[:-3])

    with pytest.raises(DataError, match="cut off"):
        list(FileSource([packed_file]).records())


def test_a_damaged_packed_file_is_an_error(packed_file: InputFile) -> None:
    packed = packed_file.path.read_bytes()
    packed_file.path.write_bytes(packed[:4] + b"\xff" * 8 + packed[12:])

    with pytest.raises(DataError, match=r"rows\.\w+\.\w+: cannot be read: "):
        list(FileSource([packed_file]).records())


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", ["jsonl", "csv", "tsv", "txt"])
def test_an_empty_file_is_one_without_rows(
    name: str, packing: str, tmp_path: Path, pack: Pack
) -> None:
    path = tmp_path / f"empty.{name}{packing}"
    path.write_bytes(pack(b"", packing))

    assert list(FileSource([InputFile.of(path)]).records()) == []


def test_every_walk_starts_anew(anything: Source) -> None:
    first, second = list(anything.records()), list(anything.records())

    assert first == second
    assert len(first) == len(TEXTS)


def test_gives_only_the_records_that_are_wanted(anything: Source) -> None:
    everything = list(anything.records())

    assert list(anything.records(only=[1, 4])) == [everything[1], everything[4]]
    assert list(anything.records(only=[5, 6, 99])) == [everything[5]]
    assert list(anything.records(only=[])) == []


def test_reads_the_wanted_numbers_lazily(anything: Source) -> None:
    asked = iter([0, 2, 4])
    records = anything.records(only=asked)

    next(records)

    assert 4 in list(asked)


def test_the_fingerprint_stays_while_nothing_changes(anything: Source) -> None:
    assert anything.fingerprint() == anything.fingerprint()


def test_a_change_of_the_rows_changes_the_fingerprint() -> None:
    rows = [
        InlineSource([{"a": value}], lambda _: ("spec.yaml", 1)).fingerprint() for value in (1, 2)
    ]
    ranges = [RangeSource(size, ("spec.yaml", 1)).fingerprint() for size in (1, 2)]

    assert len({*rows, *ranges}) == 4


def test_a_touched_file_has_another_fingerprint(file: InputFile) -> None:
    before = FileSource([file]).fingerprint()
    os.utime(file.path, ns=(1, 1))

    assert FileSource([file]).fingerprint() != before


def test_an_edit_that_puts_the_time_back_has_another_fingerprint(file: InputFile) -> None:
    before, fingerprint = file.path.stat(), FileSource([file]).fingerprint()
    file.path.write_bytes(file.path.read_bytes())
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert FileSource([file]).fingerprint() != fingerprint


def test_the_columns_are_those_of_the_first_records(anything: Source) -> None:
    assert first_columns(anything) in (["id", "text"], ["index"])
