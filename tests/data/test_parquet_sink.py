"""Parquet as an output: types that hold whatever comes, in one file, whatever it is written to."""

from __future__ import annotations

import gc
import io
import json
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gptflow.data.sinks.parquet import GROUP_BYTES, GROUP_ROWS, MOST_PARTS, ParquetSink
from gptflow.data.sinks.whole import WholeFile
from gptflow.data.sources.files import FileSource, InputFile
from gptflow.errors import UsageError
from gptflow.records import RowResult, RowStatus


def done(raw: Any) -> RowResult:
    raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return RowResult(0, RowStatus.DONE, raw, b'{"label":"x"}')


def write(stream: BinaryIO, values: list[Any]) -> None:
    """Rows with these values of `a`; bytes are JSON as it is written."""
    sink = ParquetSink(stream, ["a", "label"])
    for value in values:
        sink.write(done(b'{"a":%s}' % value if isinstance(value, bytes) else {"a": value}))
    sink.finish()


def table_of(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


LATE = GROUP_ROWS * 2
"""By then two row groups are written."""

CHANGES = [
    ([1] * LATE, [2.5], "double"),
    ([None] * LATE, [1], "int64"),
    ([None] * LATE, ["x"], "string"),
    ([[]] * LATE, [[1]], "list<element: int64>"),
    ([1] * LATE, ["x"], "extension<arrow.json>"),
    (["x"] * LATE, [{"k": 1}], "extension<arrow.json>"),
    ([True] * LATE, [0], "extension<arrow.json>"),
    ([1.5] * LATE, [2**53 + 1], "extension<arrow.json>"),
    ([["x"]] * LATE, ["x"], "extension<arrow.json>"),
]


@pytest.mark.parametrize(("first", "last", "type_"), CHANGES)
def test_a_late_change_of_type_loses_nothing(
    tmp_path: Path, first: list[Any], last: list[Any], type_: str
) -> None:
    path = tmp_path / "out.parquet"
    with WholeFile(path) as file:
        write(file.stream, first + last)
        file.commit()

    assert str(pq.read_schema(path).field("a").type) == type_
    rows = [record.columns for record in FileSource([InputFile.of(path)]).records()]
    assert rows == [{"a": value, "label": "x"} for value in first + last]
    assert list(tmp_path.iterdir()) == [path]


def test_types_may_change_more_than_once(tmp_path: Path) -> None:
    values = [value for value in (None, 1, 2.5, "x", [1]) for _ in range(GROUP_ROWS)]
    path = tmp_path / "out.parquet"
    with path.open("x+b") as stream:
        write(stream, values)

    found = [record.columns["a"] for record in FileSource([InputFile.of(path)]).records()]
    assert found == values


@pytest.mark.parametrize("values", [[1, 2], [1] * LATE + ["x"]], ids=["one part", "two parts"])
def test_a_pipe_gets_the_same_file(tmp_path: Path, values: list[Any]) -> None:
    readable = io.BytesIO()
    write(readable, values)
    reading, writing = os.pipe()
    received = io.BytesIO()

    def receive() -> None:
        with os.fdopen(reading, "rb") as stream:
            received.write(stream.read())

    thread = threading.Thread(target=receive)
    thread.start()
    with os.fdopen(writing, "wb") as stream:
        write(stream, values)
    thread.join()
    (tmp_path / "out.parquet").touch()
    with (tmp_path / "out.parquet").open("wb") as stream:  # as the shell opens it: not readable
        write(stream, values)

    assert received.getvalue() == readable.getvalue()
    assert (tmp_path / "out.parquet").read_bytes() == readable.getvalue()


def test_the_same_rows_make_the_same_bytes() -> None:
    streams = [io.BytesIO(), io.BytesIO()]
    sinks = [ParquetSink(stream, ["a"]) for stream in streams]
    for number in range(LATE):
        for sink in sinks:
            sink.write(done({"a": number}))
        if number % 1000 == 0:
            sinks[0].flush()
    for sink in sinks:
        sink.finish()

    assert streams[0].getvalue() == streams[1].getvalue()


def test_a_value_that_only_json_holds_is_its_text() -> None:
    stream = io.BytesIO()
    texts = [b'{"k": 1.10}', b"12345678901234567890.000000000001", b"null", b'"x"']
    write(stream, texts)

    column = table_of(stream.getvalue())["a"]
    assert column.to_pylist() == [None if text == b"null" else text.decode() for text in texts]


def test_a_column_that_a_row_lacks_is_null() -> None:
    stream = io.BytesIO()
    sink = ParquetSink(stream, ["a", "b", "a"])
    sink.write(done({"b": 1}))
    sink.write(done({"a": "x", "c": 2}))
    sink.finish()

    assert table_of(stream.getvalue()).to_pylist() == [{"a": None, "b": 1}, {"a": "x", "b": None}]


def test_odd_names_are_names() -> None:
    names = ["a.b", "c d", 'say ""', "größe \U0001f600", "", "\x00", "list", "row\n2"]
    stream = io.BytesIO()
    sink = ParquetSink(stream, names)
    sink.write(done(dict.fromkeys(names, 1)))
    sink.finish()

    assert table_of(stream.getvalue()).to_pylist() == [dict.fromkeys(names, 1)]


def test_rows_that_wait_are_bounded_by_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with path.open("x+b") as stream:
        sink = ParquetSink(stream, ["a"])
        for _ in range(5):
            sink.write(done({"a": os.urandom(3_000_000).hex()}))
        sink.flush()
        assert path.stat().st_size > 5_000_000
        sink.finish()

    assert pq.ParquetFile(path).num_row_groups == 2


def test_what_is_left_unfinished_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with WholeFile(path) as file:
        sink = ParquetSink(file.stream, ["a"])
        for number in range(GROUP_ROWS):
            sink.write(done({"a": number}))
        file.abandon()
    del sink
    gc.collect()  # a complaint of a destructor would be a warning, and so an error

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_full_disk_is_the_system_s_error_once() -> None:
    with Path("/dev/full").open("wb", buffering=0) as stream:
        sink = ParquetSink(stream, ["a"])
        sink.write(done({"a": 1}))
        with pytest.raises(OSError, match="No space left"):
            sink.finish()
        del sink
        gc.collect()


def test_many_changes_of_type_take_few_files_and_lose_nothing(tmp_path: Path) -> None:
    # Each group widens one more column.
    names = [f"c{at}" for at in range(MOST_PARTS + 2)]
    path = tmp_path / "out.parquet"
    before = len(list(Path("/proc/self/fd").iterdir()))
    with WholeFile(path) as file:
        sink = ParquetSink(file.stream, names)
        for group in range(len(names)):
            row: dict[str, Any] = {name: 1.5 if at <= group else 1 for at, name in enumerate(names)}
            row["pad"] = "x" * GROUP_BYTES
            sink.write(done(row))
        assert len(list(Path("/proc/self/fd").iterdir())) < before + MOST_PARTS + 8
        sink.finish()
        file.commit()

    table = pq.read_table(path)
    assert table.num_rows == len(names)
    for at, name in enumerate(names):
        assert table[name].to_pylist() == [1.5 if at <= group else 1 for group in range(len(names))]


@pytest.mark.parametrize("texts", [[b"1.10", b"1.0", b"7", b"1e3"], [rb'"\ud800"', rb'"\u00e9"']])
@pytest.mark.parametrize("as_lists", [False, True])
def test_a_value_is_the_same_json_whatever_row_group_it_is_in(
    texts: list[bytes], *, as_lists: bool
) -> None:
    if as_lists:
        texts = [b"[%s]" % b", ".join(texts)]
    only_json = b'{"k": 1}'
    early, late = io.BytesIO(), io.BytesIO()
    write(early, [*texts, *[b"null"] * GROUP_ROWS, only_json])
    write(late, [only_json, *texts])

    found = table_of(early.getvalue())["a"].to_pylist()[: len(texts)]
    assert found == table_of(late.getvalue())["a"].to_pylist()[1:]
    assert all(
        json.loads(text) == json.loads(value)
        for text, value in zip(texts, found, strict=True)
        if b"ud800" not in text
    )


def test_the_pages_have_checksums() -> None:
    stream = io.BytesIO()
    write(stream, [f"text {number}" for number in range(1000)])
    data = bytearray(stream.getvalue())
    chunk = pq.ParquetFile(stream).metadata.row_group(0).column(0)
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1

    with pytest.raises(OSError, match="CRC"):
        pq.read_table(io.BytesIO(data), page_checksum_verification=True)


@pytest.mark.parametrize(
    ("names", "says"), [([], "needs a column"), (["a", "\ud800"], "half of a surrogate pair")]
)
def test_columns_that_parquet_cannot_have_are_refused_at_once(names: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ParquetSink(io.BytesIO(), names)
