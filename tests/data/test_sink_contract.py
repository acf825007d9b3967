"""What every sink does, and that what it writes can be read again."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gptflow.data.sinks.sink import open_sink, output_format_of
from gptflow.data.sources.files import FileSource, InputFile
from gptflow.errors import UsageError
from gptflow.records import RowResult, RowStatus
from gptflow.spec.model import OutputFormat

TEXT_FORMATS: list[OutputFormat] = ["jsonl", "json", "csv"]
every_format = pytest.mark.parametrize("output_format", [*TEXT_FORMATS, "parquet"])
every_text = pytest.mark.parametrize("output_format", TEXT_FORMATS)

TEXTS = ["plain", "größer, 日本語 \U0001f600", 'a "quoted"\nline', " x ", "", "\r", "\x00\u2028;\t"]
ROWS = [{"id": str(n), "text": text, "label": text[::-1]} for n, text in enumerate(TEXTS)]


def done(raw: Any, fields: Any = None) -> RowResult:
    raw, fields = (
        part if isinstance(part, bytes) else json.dumps(part or {}, ensure_ascii=False).encode()
        for part in (raw, fields)
    )
    return RowResult(0, RowStatus.DONE, raw, fields)


def written(output_format: OutputFormat, rows: list[RowResult], **options: Any) -> bytes:
    stream = io.BytesIO()
    sink = open_sink(stream, output_format, **options)
    for row in rows:
        sink.write(row)
    sink.finish()
    return stream.getvalue()


def read_back(folder: Path, output_format: OutputFormat, data: bytes) -> list[dict[str, Any]]:
    path = folder / f"out.{output_format}"
    path.write_bytes(data)
    return [record.columns for record in FileSource([InputFile.of(path)]).records()]


def parted(row: dict[str, str]) -> RowResult:
    return done({"id": row["id"], "text": row["text"]}, {"label": row["label"]})


@every_format
def test_what_is_written_is_read_again(tmp_path: Path, output_format: OutputFormat) -> None:
    data = written(output_format, [parted(row) for row in ROWS], known=["id", "text", "label"])

    assert read_back(tmp_path, output_format, data) == ROWS


@every_format
def test_chosen_columns_come_in_their_order(tmp_path: Path, output_format: OutputFormat) -> None:
    data = written(output_format, [parted(row) for row in ROWS], columns=["label", "id"])

    rows = read_back(tmp_path, output_format, data)

    assert rows == [{"label": row["label"], "id": row["id"]} for row in ROWS]
    assert list(rows[0]) == ["label", "id"]


@every_format
def test_no_rows_make_a_valid_file(tmp_path: Path, output_format: OutputFormat) -> None:
    assert read_back(tmp_path, output_format, written(output_format, [], known=["a"])) == []


@every_text
def test_lines_end_in_a_line_feed(output_format: OutputFormat) -> None:
    data = written(output_format, [done({"a": 1})], known=["a"])

    assert data.endswith(b"\n")
    assert b"\r" not in data


@every_text
def test_a_flush_shows_the_rows_so_far(tmp_path: Path, output_format: OutputFormat) -> None:
    with (tmp_path / "out").open("wb") as stream:
        sink = open_sink(stream, output_format, known=["a"])
        sink.write(done({"a": "visible"}))
        sink.flush()

        assert b"visible" in (tmp_path / "out").read_bytes()


@every_format
def test_the_stream_stays_open(output_format: OutputFormat) -> None:
    stream = io.BytesIO()

    open_sink(stream, output_format, known=["a"]).finish()

    assert not stream.closed


@every_text
@pytest.mark.parametrize("columns", [None, ["n", "label"]])
def test_numbers_come_out_as_they_went_in(
    output_format: OutputFormat, columns: list[str] | None
) -> None:
    numbers = [b"1.10", b"12345678901234567890.000000000001", b"1E5", b"-0"]
    rows = [done(b'{"n": %s}' % number, b'{"label":%s}' % number) for number in numbers]

    data = written(output_format, rows, columns=columns, known=["n", "label"])

    assert all(data.count(number) == 2 for number in numbers[:3])


@every_text
def test_a_lone_surrogate_does_no_harm(output_format: OutputFormat) -> None:
    row = done(rb'{"a": "x\ud800y", "n": 1.10}', rb'{"b":"\udfff"}')

    data = written(output_format, [row], columns=["n", "a", "b"])

    assert rb"x\ud800y" in data
    assert b"1.10" in data
    data.decode()


def test_a_json_line_is_the_record_with_the_fields_behind_it() -> None:
    row = done(b'{"b" : 1, "a": [ 2 ]}', b'{"label":"x","n":null}')

    assert written("jsonl", [row]) == b'{"b" : 1, "a": [ 2 ],"label":"x","n":null}\n'


@pytest.mark.parametrize(
    ("raw", "fields", "line"),
    [
        (b"{}", b"{}", b"{}\n"),
        (b"{ }", b'{"a":1}', b'{"a":1}\n'),
        (b'{"a": 1 }', b"{}", b'{"a": 1}\n'),
    ],
)
def test_empty_records_and_fields_leave_no_comma(raw: bytes, fields: bytes, line: bytes) -> None:
    assert written("jsonl", [done(raw, fields)]) == line


def test_a_json_file_has_one_row_a_line() -> None:
    data = written("json", [done({"a": 1}), done({"a": 2})])

    assert data == b'[\n{"a": 1},\n{"a": 2}\n]\n'
    assert written("json", []) == b"[]\n"


@pytest.mark.parametrize("output_format", ["jsonl", "json"])
def test_a_column_that_a_row_lacks_is_null(output_format: OutputFormat) -> None:
    data = written(output_format, [done({"a": 1})], columns=["a", "größe"])

    assert '{"a":1,"größe":null}'.encode() in data


def test_a_csv_cell_is_the_string_or_nothing_or_json() -> None:
    row = done(b'{"s": "a,b", "n": null, "f": 1.10, "t": true, "l": [1, "x"], "o": {"k": 1}}')

    data = written("csv", [row], columns=["s", "n", "f", "t", "l", "o", "absent"])

    assert data.splitlines()[1] == b'"a,b",,1.10,true,"[1, ""x""]","{""k"": 1}",'


def test_a_carriage_return_in_a_csv_cell_stands_in_quotes() -> None:
    assert written("csv", [done({"a": "x\ry"})], known=["a"]) == b'a\n"x\ry"\n'


@pytest.mark.parametrize(("name", "expected"), [("a.jsonl", "jsonl"), ("b/a.b.CSV", "csv")])
def test_the_name_tells_the_format(name: str, expected: str) -> None:
    assert output_format_of(Path(name)) == expected


@pytest.mark.parametrize("name", ["out", "out.tsv", "json", "out.json.gz"])
def test_a_name_that_tells_no_format_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"Hint: end it in \.jsonl, \.json, \.csv or \.parquet"):
        output_format_of(Path(name))


FORMULAS = [
    ("=1+1", "'=1+1"),
    ("+1", "'+1"),
    ("-5", "'-5"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t'=1"),
    ("\rx", "'\rx"),
    ("\nx", "'\nx"),
    ("\uff1d1", "'\uff1d1"),
    ("\uff0b1", "'\uff0b1"),
    ("\uff0d1", "'\uff0d1"),
    ("\uff20A1", "'\uff20A1"),
    ('"=1', "\"'=1"),
    ("\ufeff =1", "\ufeff '=1"),
    ("good;=1", "good;'=1"),
    ("good\t-1", "good\t'-1"),
]
"""Texts that a spreadsheet would run, and what they become."""


@pytest.mark.parametrize(("text", "disarmed"), FORMULAS)
def test_a_safe_csv_holds_no_formula(tmp_path: Path, text: str, disarmed: str) -> None:
    data = written("csv", [done({text: text})], known=[text], csv_safe=True)

    assert [list(row.items()) for row in read_back(tmp_path, "csv", data)] == [
        [(disarmed.removeprefix("\ufeff"), disarmed)]
    ]


@pytest.mark.parametrize("value", [-5, -1.5, None, True, "", "plain", "a - b", "1=1", "a;b", [-5]])
def test_a_safe_csv_leaves_everything_else_as_it_is(value: Any) -> None:
    rows = [done({"a": value})]
    assert written("csv", rows, known=["a"], csv_safe=True) == written("csv", rows, known=["a"])


@pytest.mark.parametrize("output_format", ["jsonl", "json", "parquet"])
def test_only_csv_can_hold_formulas(output_format: OutputFormat) -> None:
    rows = [done({"a": "=1"})]
    safe, plain = (written(output_format, rows, known=["a"], csv_safe=s) for s in (True, False))
    assert safe == plain


def test_a_safe_csv_takes_time_in_proportion_to_its_texts() -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        written("csv", [done({"a": "\t" * count})], known=["a"], csv_safe=True)
        return time.process_time() - start

    small, large = (min(seconds(n) for _ in range(3)) for n in (20_000, 400_000))
    assert large < 0.2 + 80 * small, "20 times the text; quadratic would be 400 times the time"
