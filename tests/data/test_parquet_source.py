"""Parquet as a source: what its types become, what is read of a file, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gptflow.data.key import ledger_key
from gptflow.data.replay import replay
from gptflow.data.selection import Selection
from gptflow.data.sinks.parquet import ParquetSink
from gptflow.data.sources.files import FileSource, InputFile
from gptflow.data.sources.source import open_files
from gptflow.data.survey import Survey
from gptflow.errors import DataError
from gptflow.records import RowResult, RowStatus

Write = Callable[..., FileSource]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes tables into the working directory, as a.parquet, b.parquet ..."""
    monkeypatch.chdir(tmp_path)

    def write_them(*tables: pa.Table, **options: Any) -> FileSource:
        paths = [tmp_path / f"{letter}.parquet" for letter in "abcdef"[: len(tables)]]
        for path, table in zip(paths, tables, strict=True):
            pq.write_table(table, path, **options)
        return FileSource(list(map(InputFile.of, paths)))

    return write_them


def column(values: Any, kind: Any = None) -> pa.Table:
    return pa.table({"a": pa.array(values, kind)})


def as_json(values: list[str | None]) -> pa.Table:
    texts = pa.array(values, pa.string())
    return pa.table({"a": pa.ExtensionArray.from_storage(pa.json_(pa.string()), texts)})


TYPES: list[tuple[pa.Table, str]] = [
    (column([1, None], pa.int8()), "[1, null]"),
    (column([2**64 - 1], pa.uint64()), "[18446744073709551615]"),
    (column([1.0, 0.1, -0.0, 1e300]), "[1.0, 0.1, -0.0, 1e+300]"),
    (column([0.5, None], pa.float32()), "[0.5, null]"),
    (column([True, None, False]), "[true, null, false]"),
    (column(["größe", None, ""], pa.large_string()), '["größe", null, ""]'),
    (column([None, None]), "[null, null]"),
    (column([Decimal("1.10"), Decimal(0)], pa.decimal128(20, 2)), "[1.10, 0.00]"),
    (column([Decimal("9" * 38)], pa.decimal128(38, 0)), f"[{'9' * 38}]"),
    (column([0, -1, None], pa.date32()), '["1970-01-01", "1969-12-31", null]'),
    (column([86_400_000], pa.date64()), '["1970-01-02"]'),
    (column([0, 1500], pa.time32("ms")), '["00:00:00", "00:00:01.500"]'),
    (column([0, 1500], pa.timestamp("ms")), '["1970-01-01T00:00:00", "1970-01-01T00:00:01.500"]'),
    (column([-1], pa.timestamp("us")), '["1969-12-31T23:59:59.999999"]'),
    (column([1], pa.timestamp("ns")), '["1970-01-01T00:00:00.000000001"]'),
    (column([0], pa.timestamp("ns", "Asia/Shanghai")), '["1970-01-01T00:00:00Z"]'),
    (column([-1500, 0], pa.duration("ms")), '["-PT1.500S", "PT0S"]'),
    (column([[1, None], None, []]), "[[1, null], null, []]"),
    (column([[1, 2], None], pa.list_(pa.int8(), 2)), "[[1, 2], null]"),
    (column([[[0]]], pa.list_(pa.list_(pa.date32()))), '[[["1970-01-01"]]]'),
    (column([{"x": 1, "y": None}, None]), '[{"x": 1, "y": null}, null]'),
    (column([{"x": Decimal("1.50")}]), '[{"x": 1.50}]'),
    (column([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())), '[{"k": 1}, null, {}]'),
    (column(pa.array(["x", None, "x"]).dictionary_encode()), '["x", null, "x"]'),
    (
        column(pa.ExtensionArray.from_storage(pa.bool8(), pa.array([2, 0, None], pa.int8()))),
        "[true, false, null]",
    ),
    (as_json(['{"k":\n [1.10]}', None, '"x"', "null"]), '[{"k": [1.10]}, null, "x", null]'),
]


def digits(text: str | bytes) -> Any:
    """The JSON in `text`, with its numbers as they are written."""
    return json.loads(text, parse_float=str, parse_int=str)


@pytest.mark.parametrize(("table", "values"), TYPES, ids=[str(t["a"].type) for t, _ in TYPES])
def test_a_value_is_what_json_has_for_it(write: Write, table: pa.Table, values: str) -> None:
    records = list(write(table).records())

    written = [digits(record.raw)["a"] for record in records]
    assert written == [shortest(value) for value in digits(values)]
    assert [record.columns for record in records] == [json.loads(r.raw) for r in records]
    assert all(b"\n" not in record.raw for record in records)


def shortest(value: Any) -> Any:
    return "1e300" if value == "1e+300" else value


def test_a_slice_of_a_larger_array_is_read_as_itself(write: Write) -> None:
    values = [{"n": [n] * (n % 3), "t": datetime.fromtimestamp(n, UTC)} for n in range(3000)]

    records = list(write(column(values)).records())

    assert [record.columns["a"]["n"] for record in records] == [value["n"] for value in values]
    assert records[2999].columns["a"]["t"] == "1970-01-01T00:49:59Z"


def test_a_row_is_the_same_row_out_of_json_lines(write: Write, tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": pa.array([1, None]),
            "x": [0.1, 2.0],
            "d": pa.array(
                [Decimal("1.10"), Decimal("12345678901234567890.123")], pa.decimal128(30, 3)
            ),
            "t": ["x", "größe"],
            "s": [{"a": [1]}, None],
        }
    )
    lines = (
        '{"n": 1, "x": 0.1, "d": 1.1, "t": "x", "s": {"a": [1]}}\n'
        '{"t": "gr\\u00f6ße", "d": 12345678901234567890.123, "x": 2.0, "n": null, "s": null}\n'
    )
    (tmp_path / "rows.jsonl").write_text(lines)

    keys = [
        [ledger_key(record, ()) for record in source.records()]
        for source in (write(table), FileSource([InputFile.of(tmp_path / "rows.jsonl")]))
    ]

    assert keys[0] == keys[1]


def test_files_are_numbered_through_and_rows_by_file(write: Write) -> None:
    source = write(column([1, 2]), column([], pa.int64()), column([3]))

    found = [(record.number, record.file, record.line) for record in source.records()]

    assert found == [(0, "a.parquet", 1), (1, "a.parquet", 2), (2, "c.parquet", 1)]


def test_row_groups_that_hold_no_wanted_row_are_not_read(write: Write, tmp_path: Path) -> None:
    source = write(column(list(range(10_000))), row_group_size=100)
    path = tmp_path / "a.parquet"
    groups = pq.ParquetFile(path).metadata
    data = bytearray(path.read_bytes())
    for group in (0, 1, 50, 99):  # what is read of these is noise
        chunk = groups.row_group(group).column(0)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)

    wanted = [250, 251, 4999, 5100, 9899]

    assert [record.columns["a"] for record in source.records(wanted)] == wanted
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read"):
        list(source.records())


def test_a_survey_is_replayed(write: Write) -> None:
    source = write(column(list(range(5000))), column(list(range(5000))), row_group_size=1500)
    entries = list(chain.from_iterable(Survey(source, Selection()).batches()))
    pending = [(*entry, entry[1] // 5000) for entry in entries if entry[0] % 777 == 0]

    rows = list(replay(source, pending))

    assert [row.record for row in rows] == [entry[1] for entry in pending]
    assert [row.columns["a"] for row in rows] == [entry[1] % 5000 for entry in pending]


ODD_KEYS = pa.MapArray.from_arrays(
    pa.array([0, 1, 2], pa.int32()),
    pa.array([b"x", b"\xff"]).view(pa.string()),
    pa.array([1, 2]),
)
TENSORS = pa.ExtensionArray.from_storage(
    pa.fixed_shape_tensor(pa.int8(), (2, 2)), pa.array([[1, 2, 3, 4]], pa.list_(pa.int8(), 4))
)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (column([1.0, float("nan")]), "a.parquet:2: NaN is not JSON"),
        (column([1.0, float("-inf")], pa.float32()), "a.parquet:2: -Infinity is not JSON"),
        (column([b"x"]), "a.parquet: the column 'a' holds bytes"),
        (column([{"x": [b"x"]}]), "a.parquet: the column 'a' holds bytes"),
        (
            column([[(1, 2)]], pa.map_(pa.int8(), pa.int8())),
            "a.parquet: the column 'a' holds a map whose keys are not text",
        ),
        (
            column([[("x", 1)], [("x", 1), ("x", 2)]], pa.map_(pa.string(), pa.int8())),
            "a.parquet:2: the column 'a' holds an object with the name 'x' twice",
        ),
        (
            column([0, 2**60], pa.timestamp("ms")),
            "a.parquet:2: the column 'a' holds a date that is not in the years 1 to 9999",
        ),
        (column([0, 2**30], pa.date32()), "a.parquet:2: the column 'a' holds a date that"),
        (as_json(["1", '1, "b": 2']), "a.parquet:2: the column 'a' holds text that is not JSON"),
        (as_json(["{}", "{"]), "a.parquet:2: the column 'a' holds text that is not JSON"),
        (
            column(ODD_KEYS),
            "a.parquet:2: the column 'a' holds a map with a key that is not UTF-8",
        ),
        (column(TENSORS), "a.parquet: the column 'a' holds values of the type extension<"),
        (
            pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]),
            "a.parquet: its rows are an object with the name 'x' twice",
        ),
    ],
)
def test_what_a_row_cannot_hold_is_refused(write: Write, table: pa.Table, says: str) -> None:
    with pytest.raises(DataError) as caught:
        list(write(table).records())

    assert str(caught.value).startswith(says)
    assert "Hint: " in str(caught.value)


def test_text_that_is_not_utf8_is_refused_with_its_row(write: Write) -> None:
    offsets = pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0")
    array = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"xg\xe4")])

    with pytest.raises(DataError, match=r"a\.parquet:2: not UTF-8: byte 0xe4"):
        list(write(pa.table({"a": array})).records())


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (pa.table({"b": [1]}), "b.parquet: there is no column 'a', which a.parquet has"),
        (pa.table({"a": [1], "b": [1]}), "b.parquet: the column 'b' is not in a.parquet"),
        (column(["1"]), "b.parquet: the column 'a' holds text, in a.parquet numbers"),
        (column([None, [1]]), "b.parquet: the column 'a' holds lists, in a.parquet numbers"),
    ],
)
def test_files_of_different_tables_are_refused(write: Write, second: pa.Table, says: str) -> None:
    with pytest.raises(DataError) as caught:
        list(write(column([1]), second).records())

    assert str(caught.value).startswith(says)


def test_files_whose_types_were_found_from_their_values_are_one_table(tmp_path: Path) -> None:
    paths = [tmp_path / f"{letter}.parquet" for letter in "abcd"]
    values: list[list[Any]] = [[1, 2], [None, None], [{"k": 1}, "x"], [2.5, None]]
    for path, column_values in zip(paths, values, strict=True):
        with path.open("w+b") as stream:
            sink = ParquetSink(stream, ["a"])
            for value in column_values:
                raw = json.dumps({"a": value}).encode()
                sink.write(RowResult(0, RowStatus.DONE, raw))
            sink.finish()

    for order in (paths, paths[::-1], [paths[1], *paths]):
        read = [
            record.columns["a"] for record in FileSource(list(map(InputFile.of, order))).records()
        ]
        assert read == [value for path in order for value in values[paths.index(path)]]


def test_files_may_differ_in_width_order_and_nulls(write: Write) -> None:
    first = pa.table({"a": pa.array([1], pa.int8()), "b": ["x"]})
    second = pa.table({"b": pa.nulls(1), "a": pa.array([2.5])})

    assert [r.columns for r in write(first, second).records()] == [
        {"a": 1, "b": "x"},
        {"b": None, "a": 2.5},
    ]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("a.parquet", lambda data: data[:-20], "a.parquet: the Parquet file is cut off"),
        ("a.parquet", lambda data: data[:4], "a.parquet: the Parquet file is cut off"),
        ("a.parquet", lambda _: b"", "a.parquet: not a Parquet file"),
        ("a.parquet", lambda _: b'{"a": 1}\n', "a.parquet: not a Parquet file"),
        ("a.parquet", lambda _: b"\x1f\x8b\x08 rest", "a.parquet: looks like gzip data"),
        ("a.parquet", lambda data: data[:-40] + b"\xff" * 32 + data[-8:], "a.parquet: cannot be"),
        ("a.parquet", lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1", "a.parquet: cannot be"),
        ("a.parquet.gz", lambda data: data, "a.parquet.gz: a Parquet file cannot be read through"),
        ("a.jsonl", lambda data: data, "a.jsonl: looks like a Parquet file"),
    ],
)
def test_a_file_that_is_broken_is_named(
    write: Write, name: str, change: Callable[[bytes], bytes], says: str
) -> None:
    write(column(list(range(1000))))
    data = Path("a.parquet").read_bytes()
    Path(name).write_bytes(change(data))

    with pytest.raises(DataError) as caught:
        list(FileSource([InputFile.of(Path(name).absolute())]).records())

    assert str(caught.value).startswith(says)
    assert "Hint: " in str(caught.value)
    assert "\n" not in caught.value.message


def test_a_record_that_is_too_long_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"a\.parquet:2: the record is longer than 64 MiB"):
        list(write(column(["x", "y" * (1 << 26)])).records())


def test_a_file_without_rows_is_a_source_without_rows(write: Write) -> None:
    assert list(write(column([], pa.string())).records()) == []


def test_a_file_without_rows_goes_with_any_type(write: Write) -> None:
    source = write(column([1, 2]), column([], pa.string()))

    assert [record.columns["a"] for record in source.records()] == [1, 2]


def test_a_column_of_nulls_is_told_from_one_whose_name_goes_on_with_a_dot(write: Write) -> None:
    first = pa.table({"a": [{"x": 1, "y": "t"}], "a.b": [1], "c": ["x"]})
    second = pa.table(
        {"a": pa.array([None], pa.string()), "a.b": [2], "c": pa.array([None], pa.int64())}
    )

    records = list(write(first, second).records())

    assert records[1].columns == {"a": None, "a.b": 2, "c": None}


def test_standard_input_may_be_parquet(write: Write, tmp_path: Path) -> None:
    write(column([1, 2]))
    with Path("a.parquet").open("rb") as stdin:
        source = open_files([Path("-")], "parquet", spool_folder=tmp_path / "spool", stdin=stdin)

    assert [(r.columns, r.file, r.line) for r in source.records([1])] == [({"a": 2}, "stdin", 2)]
