from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.data.json_text import (
    MAX_DEPTH,
    decode_string,
    encoded,
    members,
    parse_object,
)
from gptflow.errors import DataError

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


pairs = st.lists(st.tuples(st.sampled_from(["a", "b", ":", '"', "a:"]), values), max_size=4)


@given(pairs, st.sampled_from([":", ": ", " :", "\t:"]), st.booleans())
def test_a_name_that_stands_twice_is_always_found(
    members: list[tuple[str, Any]], colon: str, nested: bool
) -> None:
    inner = ",".join(f"{json.dumps(name)}{colon}{json.dumps(value)}" for name, value in members)
    raw = f'{{"list": [{{{inner}}}]}}' if nested else f"{{{inner}}}"
    names = [name for name, _ in members]

    if len(set(names)) == len(names):
        parse_object(raw.encode(), ("x", 1))
    else:
        with pytest.raises(DataError, match=r"^x:1: an object has the name '.*' twice"):
            parse_object(raw.encode(), ("x", 1))


def test_what_can_be_read_at_all_can_be_read_on_every_stack() -> None:
    def at_depth(frames: int, depth: int) -> Any:
        if frames:
            return at_depth(frames - 1, depth)
        return parse_object(b'{"a":' + b"[" * depth + b"]" * depth + b"}", ("x", 1))

    for frames in (0, 200):
        at_depth(frames, MAX_DEPTH - 1)
        with pytest.raises(DataError, match="nested too deeply: more than 500 levels"):
            at_depth(frames, MAX_DEPTH)
