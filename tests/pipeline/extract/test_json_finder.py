from __future__ import annotations

import contextlib
import time
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gptflow.pipeline.extract.invalid import Invalid
from gptflow.pipeline.extract.json_finder import json_values

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PROSE = st.text(st.characters(exclude_characters="{}[]`~", exclude_categories=["Cs"]), max_size=40)


def first(text: str) -> Any:
    return next(json_values(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (" 3 ", 3),
        ('"word"', "word"),
        ('Sure!\n```json\n{"a": 1}\n```\nDone.', {"a": 1}),
        ("```\r\n7\r\n```", 7),
        ("~~~~\n[1]\n~~~~", [1]),
        ('I mean {this}.\n\n```json\n{"a": 1}\n```', {"a": 1}),
        ('{"a": 0} was wrong:\n```\n{"a": 1}\n```', {"a": 1}),
        ('```\nnot json\n```\nbut {"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}', {"a": 1}),
        ('````\n```json\n{"a": 1}\n```\n````', {"a": 1}),
        ('The answer is {"a": {"b": [1]}}.', {"a": {"b": [1]}}),
        ('{{"a": 1}}', {"a": 1}),
        ('Take {"} and then {"a": 1}', {"a": 1}),
        ('Use items[0], as in {"a": 1}', {"a": 1}),
        ('{"a": 1} {"a": 2}', {"a": 1}),
        ('\\frac{1}{2}, so {"a": 1}', {"a": 1}),
    ],
)
def test_the_first_json_value_is_found(text: str, value: object) -> None:
    assert first(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "{a: 1}",
        "{'a': 1}",
        "[1, 2,]",
        '{"a": True}',
        "[NaN]",
        "say 5",
        "n [" + "9" * 5000 + "]",
        '["\\ud800"]',
    ],
)
def test_what_is_not_json_is_not_repaired(text: str) -> None:
    assert list(json_values(text)) == []


@pytest.mark.parametrize("text", ['{"label": "x", "meta": {"k": 1}, "rea', "Here: [[1, 2], [3,"])
def test_a_value_that_breaks_off_is_said_so_and_its_parts_are_not_offered(text: str) -> None:
    with pytest.raises(Invalid, match="breaks off"):
        list(json_values(text))


def test_the_parts_of_a_broken_value_are_not_offered() -> None:
    assert list(json_values('{"meta": {"k": 1}, reason: because}')) == []


def test_nesting_too_deep_for_the_parser_is_said_so() -> None:
    with pytest.raises(Invalid, match="nested too deeply"):
        list(json_values("x" + "[" * 50_000))


@given(PROSE, JSON, PROSE)
def test_any_object_in_any_prose_is_found(before: str, inner: object, after: str) -> None:
    value = {"value": inner}
    assert first(f"{before} {msgspec.json.encode(value).decode()} {after}") == value


@given(PROSE, st.lists(JSON, max_size=4), PROSE)
def test_any_array_in_any_prose_is_found(before: str, value: list[object], after: str) -> None:
    # Between two quotation marks an array that holds no string is itself a part of one.
    assume(not (before.lstrip().startswith('"') and after.rstrip().endswith('"')))
    assert first(f"{before} {msgspec.json.encode(value).decode()} {after}") == value


@given(JSON, PROSE)
def test_any_fenced_value_is_found(value: object, before: str) -> None:
    assert first(f"{before}\n```json\n{msgspec.json.encode(value).decode()}\n```\n") == value


@given(st.text(st.sampled_from('{}[]",:`~\n\\ 1atrue\ud800'), max_size=200) | st.text())
def test_no_text_makes_it_raise_anything_but_invalid(text: str) -> None:
    try:
        values = list(json_values(text))
    except Invalid:
        return
    assert all(msgspec.json.encode(value) for value in values)


HOSTILE = ["{", "[", '{"', '{"a":', '["', '{"a":1,x', "[1,", "```\n", "`~`\n", "~", "{ \n", '{"\\']


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("tail", ["", "`", "x"])
def test_no_text_takes_more_than_proportional_time(unit: str, tail: str) -> None:
    def seconds(count: int) -> float:
        text = unit * (count // len(unit)) + tail
        start = time.process_time()
        with contextlib.suppress(Invalid):
            list(json_values(text))
        return time.process_time() - start

    small, large = (min(seconds(n) for _ in range(3)) for n in (20_000, 400_000))
    assert large < 0.2 + 80 * small, "20 times the text; quadratic would be 400 times the time"
