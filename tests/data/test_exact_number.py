from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gptflow.data.exact_number import exact
from gptflow.data.json_text import parse_object


@pytest.mark.parametrize(
    "number",
    [
        "0.1",
        "1e2",
        "-0.0",
        "12345678901234567890",
        "0.30000000000000004",
        "-0.30000000000000004",
        "1.2345678901234566e-07",
        "1.2345678901234566e-7",
        "0.30000000000000004000",
        "9007199254740992.0",
        "[0.30000000000000004, 123456789012345678901234567890]",
        "1e-79",
        "1.5E+300",
        "[[], {}, [[1e000]]]",
        '{"b": 0.30000000000000004, "c": "1.2.3.4.5.6.7.8.9"}',
        '"0.1234567890123456789"',
        '["\\ud800", 0.30000000000000004]',
    ],
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
        ("[[1e-400]]", "[[0.0]]"),
        ('{"b": [0.1000000000000000055]}', '{"b": [0.1]}'),
        ("1e-400", "1e-401"),
        ("1e-99999999999999999999", "0.0"),
        ("0.1000000000000000000000000000000001", "0.1000000000000000000000000000000002"),
        ("3.14159265358979323846", "3.14159265358979323847"),
        ("[1.5, 0.1000000000000000000001]", "[1.5, 0.1]"),
        ("9007199254740993.0", "9007199254740992.0"),
        ("-9007199254740993.0", "-9007199254740992.0"),
        ("9007199254740993e0", "9007199254740992e0"),
        ("0.123456789012345678", "0.123456789012345679"),
        ("0.10000000000000001", "0.1"),
        ("1.00000000000000001e-5", "1e-5"),
        (
            '["0.123456789012345678", 0.123456789012345678]',
            '["0.123456789012345678", 0.123456789012345679]',
        ),
        ('{"0.10000000000000001": 0.10000000000000001}', '{"0.10000000000000001": 0.1}'),
    ],
)
def test_numbers_that_are_one_float_are_told_apart(one: str, other: str) -> None:
    rows = [f'{{"a": {number}}}'.encode() for number in (one, other)]
    first, second = (exact(raw, parse_object(raw, ("x", 1))) for raw in rows)

    assert first != second


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.text("0123456789", min_size=1, max_size=4)
)
@example(0.1, "0000000000000001")
def test_rows_are_alike_only_where_their_numbers_are_the_same(value: float, more: str) -> None:
    one = repr(value) if "." in repr(value) and "e" not in repr(value) else f"{value:.30f}"
    rows = [f'{{"a": {number}}}'.encode() for number in (one, one + more)]
    first, second = (exact(raw, parse_object(raw, ("x", 1))) for raw in rows)

    assert first != second or Decimal(one) == Decimal(one + more)
