from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from gptflow.data.sources.files import FileSource
from gptflow.errors import DataError

Write = Callable[..., FileSource]


def test_the_raw_row_is_the_very_line(source: Write) -> None:
    line = rb'{"b" : 1.10, "a":12345678901234567890123, "\u00e9":"\/\u0000","c":[ 1E5 ,-0.0]}'

    (record,) = source(x__jsonl=b"  " + line + b" \t\r\n").records()

    assert record.raw == line
    assert record.columns["a"] == 12345678901234567890123
    assert list(record.columns) == ["b", "a", "é", "c"]


def test_blank_lines_are_passed_over_but_counted(source: Write) -> None:
    records = source(x__jsonl='\n \r\n{"a": 1}\n\n{"a": 2}').records()

    assert [(record.number, record.line) for record in records] == [(0, 3), (1, 5)]


def test_rows_may_have_different_columns(source: Write) -> None:
    records = source(x__jsonl='{"a": 1}\n{"b": 2}\n{}\n').records()

    assert [record.columns for record in records] == [{"a": 1}, {"b": 2}, {}]


def test_only_a_line_feed_ends_a_line(source: Write) -> None:
    (record,) = source(x__jsonl='{"a": "\u2028\u0085\x7f",\r"b": 1}\n').records()

    assert record.columns == {"a": "\u2028\u0085\x7f", "b": 1}


def test_a_lone_surrogate_comes_through(source: Write) -> None:
    line = rb'{"a": "x\ud800y", "b": {"\udfff": 1.50}}'

    (record,) = source(x__jsonl=line).records()

    assert record.raw == line
    assert record.columns == {"a": "x\ud800y", "b": {"\udfff": 1.5}}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"a": 1 "b": 2}', "not valid JSON: expecting ',' delimiter"),
        ('{"a": 1,}', "not valid JSON: "),
        ('{"a": 01}', "not valid JSON: expecting ',' delimiter"),
        ('{"a": "x', "not valid JSON: unterminated string starting"),
        ('{"a": 1} {"b": 2}', "not valid JSON: extra data"),
        ("{'a': 1}", "not valid JSON: expecting property name enclosed in double quotes"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e400}', "the number 1e400 is out of range"),
        ('{"a": ' + "9" * 5000 + "}", "a number of 5,000 digits"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "the JSON is nested too deeply"),
        (r'{"x\ud800": 1}', r"the column's name 'x\ud800' holds half of a surrogate pair"),
        ("3", "expected a JSON object, found a number"),
        ("2.5", "expected a JSON object, found a number"),
        ('"x"', "expected a JSON object, found a string"),
        ("null", "expected a JSON object, found null"),
        ("true", "expected a JSON object, found true or false"),
        ('[{"a": 1}]', "expected a JSON object, found an array"),
    ],
)
def test_a_broken_line_is_named_with_file_and_line(source: Write, line: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        list(source(x__jsonl=f'{{"a": 0}}\n{line}\n').records())

    assert caught.value.message.startswith(f"x.jsonl:2: {what}")
    assert len(str(caught.value)) < 400


def test_the_error_points_at_the_spot(source: Write) -> None:
    with pytest.raises(DataError) as caught:
        list(source(x__jsonl='{"id": 3 "text": "good"}').records())

    assert caught.value.message.splitlines()[1:] == [
        '    {"id": 3 "text": "good"}',
        "             ^",
    ]


@pytest.mark.parametrize("text", ['[{"a": 1}]', "[\n{}]", '{\n  "a": 1\n}\n'])
def test_a_json_file_under_the_wrong_name_gets_the_hint(source: Write, text: str) -> None:
    with pytest.raises(DataError, match="one JSON object; for a JSON array say format: json"):
        list(source(x__jsonl=text).records())


def test_lines_that_nobody_wants_are_not_decoded(source: Write) -> None:
    broken = source(x__jsonl='{"a": 1}\n{broken\n{"a": 3}\n')

    assert [record.columns for record in broken.records(only=[0, 2])] == [{"a": 1}, {"a": 3}]


def test_a_long_decimal_is_kept_in_the_raw_row(source: Write) -> None:
    (record,) = source(x__jsonl=b'{"pi": 3.14159265358979323846264338327950288}').records()

    assert Decimal(record.raw[7:-1].decode()) == Decimal("3.14159265358979323846264338327950288")
