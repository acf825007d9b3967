from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gptflow.engine.jsonc import line_and_column, locate, plain_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def comment(words: str) -> str:
    """Both kinds of comment, around words that end neither."""
    words = words.replace("*/", "").replace("\n", " ").replace("\r", " ").rstrip("*")
    return f"/* {words} */ // {words}\n"


@given(values)
def test_plain_json_stays_as_it_is(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1)

    assert plain_json(text) == text


@given(values, st.text())
def test_comments_and_trailing_commas_change_no_value(value: object, words: str) -> None:
    note = comment(words)
    text = f"{note}[{note}{json.dumps(value)}{note},{note}]{note}"

    assert json.loads(plain_json(text)) == [value]


@given(st.text())
def test_every_line_keeps_its_length(text: str) -> None:
    plain = plain_json(text)

    assert [len(line) for line in plain.split("\n")] == [len(line) for line in text.split("\n")]


def test_slashes_inside_of_strings_are_text() -> None:
    assert json.loads(plain_json('["https://a/b", "/* c */", "\\"// d"]')) == [
        "https://a/b",
        "/* c */",
        '"// d',
    ]


def test_a_value_is_found_by_its_path() -> None:
    text = '{"a": 1,\n "b": [true,\n  {"c": "x"}]}'

    assert line_and_column(text, locate(text, ("b", 1, "c"))) == (3, 9)
    assert line_and_column(text, locate(text, ("b", 1, "c"), name=True)) == (3, 4)


def test_a_missing_value_is_placed_at_its_parent() -> None:
    text = '{"a": 1,\n "b": {}}'

    assert line_and_column(text, locate(text, ("b", "c"))) == (2, 7)
