from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.data.json_text import parse_object
from gptflow.data.key import ledger_key, row_key
from gptflow.data.record import Record
from gptflow.errors import DataError

text = st.text(st.characters())  # lone surrogates included
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**30, 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
)
names = st.text(st.characters(exclude_categories=["Cs"]))
rows = st.dictionaries(names, values, max_size=5)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(rows, st.booleans())
def test_order_and_layout_do_not_matter(row: dict[str, Any], spaced: bool) -> None:
    line = json.dumps(reordered(row), indent=3 if spaced else None).encode()

    assert row_key(parse_object(line, ("x", 1))) == row_key(row)


@given(rows, rows)
def test_different_rows_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert (row_key(one) == row_key(other)) is same


@given(values, values)
def test_different_ids_have_different_keys(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert (row_key({"id": one}, ["id"]) == row_key({"id": other}, ["id"])) is same


def test_types_matter() -> None:
    like_one: list[Any] = [1, 1.0, "1", True, [1], {"1": 1}, "1.0"]

    assert len({row_key({"id": value}, ["id"]) for value in like_one}) == len(like_one)


def test_with_id_columns_nothing_else_matters() -> None:
    assert row_key({"id": 1, "text": "a"}, ["id"]) == row_key({"text": "b", "id": 1}, ["id"])


def test_id_columns_do_not_run_into_each_other() -> None:
    keys = {
        row_key({"a": a, "b": b}, ["a", "b"]) for a, b in [("x", "yz"), ("xy", "z"), ("z", "xy")]
    }

    assert len(keys) == 3


def test_the_key_of_a_row_is_the_same_in_every_release() -> None:
    assert row_key({"text": "größer", "n": [1.5, None]}).hex() == "0b8244e01bd8ba75b2a365928c20f253"
    assert row_key({"id": 7}, ["id"]).hex() == "7ce76f7ac73316c27bd96080a3ff8ad1"
    assert row_key({"text": "\ud800"}).hex() == "0b4bff6738d880aae1ba1e52c07d8828"


def test_a_missing_id_column_is_named_with_file_and_line() -> None:
    record = Record(4, b'{"ID": 1, "text": "x"}', {"ID": 1, "text": "x"}, "x.jsonl", 5)

    with pytest.raises(DataError) as caught:
        ledger_key(record, ["id"])

    assert caught.value.message.startswith("x.jsonl:5: the record has no column 'id'")
    assert caught.value.hint == "the record has ID, text"
