"""What functions may give is what JSON has."""

from __future__ import annotations

from datetime import date
from enum import Enum, IntEnum
from typing import Any

import pytest

from gptflow.pipeline.hook_value import MAX_DEPTH, NotJson, fields_of, own_copy, plain, rows_of


class Colour(str, Enum):  # noqa: UP042  # people have such ones, and str() of them is another
    RED = "red"


class Odd(str):
    """A key that is not equal to its own text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 1


class Level(IntEnum):
    HIGH = 3


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_values_of_json_are_given_as_they_are() -> None:
    value = {"a": [1, 2.5, True, None, "x"], "b": {"c": 2**70}}
    assert plain(value) == value
    assert plain(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    assert len(str(plain(10**4299))) == 4300


def test_what_only_looks_like_them_becomes_one_of_them() -> None:
    value = plain({"t": (1, 2), "colour": Colour.RED, "level": Level.HIGH})
    assert list(plain({Colour.RED: 1})) == ["red"]
    assert value == {"t": [1, 2], "colour": "red", "level": 3}
    assert (type(value["colour"]), type(value["level"])) == (str, int)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": {1}}, "a set in a, which JSON does not have"),
        ({"a": [1, date(2026, 1, 1)]}, "a date in a[1], which JSON does not have"),
        ({"a": float("nan")}, "the number nan in a"),
        ({"a": {1: 2}}, "a dict with the key 1, which is no text in a"),
        ({"\ud800": 1}, "which is no text"),
        ({"a": 10**4300}, "an integer of more than 4,300 digits in a, which is too long"),
        ({"a": {Odd("b"): 1, "b": 2}}, "a dict with two keys that are the text 'b' in a"),
        (b"x", "a bytes"),
        (nested(MAX_DEPTH + 1), "nested more than 200 levels"),
    ],
)
def test_what_json_does_not_have_is_refused_with_its_place(value: Any, told: str) -> None:
    with pytest.raises(NotJson) as wrong:
        plain(value)
    assert told in str(wrong.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(NotJson, match="nested"):
        plain(ring)


def test_fields_come_in_the_order_of_the_spec() -> None:
    assert list(fields_of({"b": 1, "a": None}, ("a", "b"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "nothing (None), expected a dict with a, b"),
        ("x", "text, expected a dict with a, b"),
        ({"a": 1}, "a dict with no b, expected a, b"),
        ({"a": 1, "b": 2, "c": 3}, 'a dict with also "c", expected a, b'),
        ({"a": 1, "c": 3}, 'a dict with no b and also "c", expected a, b'),
        ({"a": 1, "b": object()}, "an object in b"),
    ],
)
def test_other_fields_are_refused(given: Any, told: str) -> None:
    with pytest.raises(NotJson) as wrong:
        fields_of(given, ("a", "b"))
    assert told in str(wrong.value)


def test_a_record_becomes_no_row_one_or_several() -> None:
    assert rows_of(None) == rows_of([]) == []
    assert rows_of({"a": 1}) == [{"a": 1}]
    assert rows_of(({"a": 1}, {"a": 2})) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("given", "told"),
    [("x", "text, expected a row"), ([{"a": 1}, None], "nothing (None) at [1] of its list")],
)
def test_what_is_no_row_is_refused(given: Any, told: str) -> None:
    with pytest.raises(NotJson) as wrong:
        rows_of(given)
    assert told in str(wrong.value)


def test_a_copy_is_one_down_to_its_last_list() -> None:
    value = {"a": [{"b": [1]}]}
    copy = own_copy(value)
    copy["a"][0]["b"].append(2)
    assert value == {"a": [{"b": [1]}]}
