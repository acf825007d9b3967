from __future__ import annotations

import pytest

from gptflow.data.exact_number import exact
from gptflow.data.json_text import parse_object


@pytest.mark.parametrize(
    "number", ["0.1", "1e2", "-0.0", "12345678901234567890", "0.30000000000000004"]
)
def test_a_number_that_a_float_holds_is_exact_as_it_is(number: str) -> None:
    raw = f'{{"a": {number}, "b": 1.5}}'.encode()
    columns = parse_object(raw, ("x", 1))

    assert exact(raw, columns) == columns


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.1", "0.10000000000000000000001"),
        ("1e-400", "0.0"),
        ("1e-400", "1e-401"),
        ("1e-99999999999999999999", "0.0"),
        ("0.1000000000000000000000000000000001", "0.1000000000000000000000000000000002"),
        ("3.14159265358979323846", "3.14159265358979323847"),
        ("[1.5, 0.1000000000000000000001]", "[1.5, 0.1]"),
    ],
)
def test_numbers_that_are_one_float_are_told_apart(one: str, other: str) -> None:
    rows = [f'{{"a": {number}}}'.encode() for number in (one, other)]
    first, second = (exact(raw, parse_object(raw, ("x", 1))) for raw in rows)

    assert first != second
