from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.data.json_text import decode_string, encoded, members

text = st.text(st.characters())
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)


@given(st.dictionaries(text, values, max_size=5), st.sampled_from([None, 0, 2]))
def test_members_are_the_exact_texts_of_the_values(row: dict[str, Any], indent: int | None) -> None:
    raw = json.dumps(row, indent=indent).encode()

    found = members(raw)

    assert {name: json.loads(value) for name, value in found.items()} == row
    assert list(found) == list(row)
    assert all(value in raw for value in found.values())


@pytest.mark.parametrize("surrogate", ["", r', "s":"\ud800"'])
def test_numbers_stay_as_they_are_written(surrogate: str) -> None:
    raw = '{"a" : 1.10 ,"b":[ 1E5 ],"c" : -0, "d": {"x": 12345678901234567890.00000000001}%s }'

    found = members((raw % surrogate).encode())

    assert [found[name] for name in "abcd"] == [
        b"1.10", b"[ 1E5 ]", b"-0", b'{"x": 12345678901234567890.00000000001}',
    ]  # fmt: skip


@given(values)
def test_any_value_can_be_encoded(value: Any) -> None:
    assert json.loads(encoded(value)) == value
    assert b"\n" not in encoded(value)


@given(text)
def test_a_string_is_decoded_from_its_text(string: str) -> None:
    assert decode_string(json.dumps(string).encode()) == string
    assert decode_string(encoded(string)) == string
