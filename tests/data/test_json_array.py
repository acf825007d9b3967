from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.data.sources import json_array
from gptflow.data.sources.files import FileSource
from gptflow.errors import DataError

Write = Callable[..., FileSource]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(), values, max_size=4)


class Dribble(io.BufferedReader):
    """A stream that gives two bytes at a time, so that every token is cut somewhere."""

    def read(self, size: int | None = -1, /) -> bytes:
        del size
        return super().read(2)


def elements(text: str) -> list[tuple[int, bytes]]:
    raw: Any = io.BytesIO(text.encode())
    return list(json_array.split(Dribble(raw), "x.json"))


@given(st.lists(objects, max_size=4), st.sampled_from([None, 0, 3]), st.booleans())
def test_any_array_is_taken_apart_wherever_the_reads_cut_it(
    rows: list[dict[str, Any]], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)

    found = elements(text)

    assert [json.loads(raw) for _, raw in found] == rows
    assert all(raw.decode() in text for _, raw in found)


@pytest.mark.parametrize("character", ["\U0001f600", "\ud83d\ude00", "\ud800", "é", "\\", '"'])
def test_escapes_that_a_read_cuts_are_whole(character: str) -> None:
    raw = json.dumps({"a": character * 3}).encode()

    assert elements(f"[{raw.decode()}, {raw.decode()}]") == [(1, raw), (1, raw)]


def test_the_text_of_an_element_is_kept_but_for_line_breaks(source: Write) -> None:
    text = '[{"b":1.10,\r\n  "a" : "x  \\n y",\n\t"c": [12345678901234567890123]}\n]'

    (record,) = source(x__json=text).records()

    assert record.raw == b'{"b":1.10, "a" : "x  \\n y", "c": [12345678901234567890123]}'


@pytest.mark.parametrize("text", ["[]", " [ ] \n", "\n[\n]\n"])
def test_an_empty_array_has_no_rows(source: Write, text: str) -> None:
    assert list(source(x__json=text).records()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.json:1: expected a JSON array, found the end of the file"),
        ('{"a": 1}\n{"a": 2}', "x.json:1: expected a JSON array, found '{'"),
        ('[\n{"a": 1},\n]', "x.json:3: expected a JSON object, found ']'"),
        ('[\n{"a": 1},\n3]', "x.json:3: expected a JSON object, found '3'"),
        ('[\n{"a": 1}\n{"a": 2}]', "x.json:3: expected ',' or ']' after an element, found '{'"),
        ('[\n{"a": 1},', "x.json:2: expected a JSON object, found the end of the file"),
        ('[\n{"a": 1}', "x.json:2: expected ',' or ']' after an element, found the end"),
        ("[", "x.json:1: expected a JSON object, found the end of the file"),
        ('[\n{"a":\n 1', "x.json:3: not valid JSON: expecting ',' delimiter"),
        ('[\n{"a": "x\n"}]', "x.json:2: not valid JSON: invalid control character"),
        ('[\n{"a": "x', "x.json:2: not valid JSON: unterminated string starting"),
        ('[{"a": 1},\n{"a":\n 1,\n b}]', "x.json:4: not valid JSON: expecting property name"),
        ("[{}\n]\n]", "x.json:3: expected nothing after the array, found ']'"),
        ('[{"a": \n NaN}]', "x.json:1: NaN is not JSON"),
        ("[" + '{"a":' * 50_000, "x.json:1: the JSON is nested too deeply"),
    ],
)
def test_a_broken_array_is_named_with_file_and_line(source: Write, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        list(source(x__json=text).records())

    assert caught.value.message.startswith(message)


def test_json_lines_under_the_wrong_name_get_the_hint(source: Write) -> None:
    with pytest.raises(DataError, match="Hint: for one object a line say format: jsonl"):
        list(source(x__json='{"a": 1}\n{"a": 2}').records())


def test_a_trailing_comma_gets_the_hint(source: Write) -> None:
    with pytest.raises(DataError, match="Hint: remove the comma before it"):
        list(source(x__json='[{"a": 1},]').records())


def test_a_syntax_error_shows_before_the_rest_of_the_file_is_read(source: Write) -> None:
    text = '[{"a": 1}, {"b" 2}, ' + '{"c": 3}, ' * 200_000

    with pytest.raises(DataError, match="expecting ':' delimiter"):
        list(source(x__json=text).records())


def test_one_huge_element_takes_linear_time(source: Write) -> None:
    huge = json.dumps([{"a": ["x" * 20] * 800_000}])
    started = time.process_time()

    (record,) = source(x__json=huge).records()

    assert len(record.columns["a"]) == 800_000
    assert time.process_time() - started < 3
