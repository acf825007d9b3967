from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptflow.data.sources.files import FileSource
from gptflow.errors import DataError

Write = Callable[..., FileSource]

cells = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_cells_are_strings_as_they_stand(source: Write, line_end: str) -> None:
    lines = ["id,text,note", '007," a, b",', '1.0,"two\nlines ""x""",NaN']

    records = list(source(x__csv=line_end.join(lines)).records())

    assert [record.columns for record in records] == [
        {"id": "007", "text": " a, b", "note": ""},
        {"id": "1.0", "text": 'two\nlines "x"', "note": "NaN"},
    ]
    assert records[0].raw == b'{"id":"007","text":" a, b","note":""}'


def test_a_record_is_named_by_the_line_it_begins_on(source: Write) -> None:
    records = source(x__csv='a,b\n\n1,"x\ny\n"\n\n2,z\n').records()

    assert [record.line for record in records] == [3, 7]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(rows=st.lists(st.tuples(cells, cells)))
def test_what_a_csv_writer_wrote_comes_out_again(
    source: Write, rows: list[tuple[str, str]]
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("a", "b"), *rows])

    records = source(x__csv=text.getvalue()).records()

    assert [tuple(record.columns.values()) for record in records] == rows


def test_a_header_alone_has_no_rows(source: Write) -> None:
    assert list(source(x__csv="id,text\n").records()) == []


def test_a_cell_may_be_longer_than_the_csv_modules_own_limit(source: Write) -> None:
    (record,) = source(x__csv='a\n"' + "x" * 1_000_000 + '"\n').records()

    assert len(record.columns["a"]) == 1_000_000


def test_a_larger_limit_of_the_program_around_us_is_kept(source: Write) -> None:
    before = csv.field_size_limit(1 << 30)

    list(source(x__csv="a\n1\n").records())

    assert csv.field_size_limit(before) == 1 << 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text,id\n", "x.csv:1: the header names column 'id' twice"),
        ("id,,text\n", "x.csv:1: column 2 of the header has no name"),
        ("\nid, \n", "x.csv:2: column 2 of the header has no name"),
        ("a,b\n1,2\n3\n", "x.csv:3: expected 2 cells as in the header, found 1"),
        ('a,b\n"1\n",2,3\n', "x.csv:2: expected 2 cells as in the header, found 3"),
        ('a,b\n1,2\n3,"open\n4,5\n', "x.csv:3: a quote in the record that begins here is never"),
        ('a,b\n1,"x"y\n', "x.csv:2: a cell goes on after its closing quote"),
        ('a,b\n"1\n","x"y\n', "x.csv:3: a cell goes on after its closing quote"),
        ("a,b\n1,2\r3,4\n", "x.csv:2: a lone CR outside quotes"),
    ],
)
def test_a_broken_file_is_named_with_file_and_line(source: Write, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        list(source(x__csv=text).records())

    assert caught.value.message.startswith(message)


def test_a_tsv_has_tabs_between_its_cells_and_the_same_quotes(source: Write) -> None:
    (record,) = source(x__tsv='a,x\tb\n1,2\t"3\t4"\n').records()

    assert record.columns == {"a,x": "1,2", "b": "3\t4"}


def test_a_long_name_is_shown_in_part(source: Write) -> None:
    with pytest.raises(DataError, match=r"column 'x{72}\.\.\.' twice"):
        list(source(x__csv=f"{'x' * 100_000},{'x' * 100_000}\n").records())
