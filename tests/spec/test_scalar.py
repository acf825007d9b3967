from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.spec.scalar import resolve_plain


@pytest.mark.parametrize(
    "text",
    [
        *("no", "No", "yes", "on", "off", "y", "n", "none", "nULL", "tRUE", "inf", "nan"),
        *("010", "-007", "00", "01.5", "12:30", "1:2:3", "2024-05-01", "2024-05-01T10:00:00Z"),
        *("1_000", "0b101", "0o9", "0xg", "1e", "e3", ".", "+", "-", "1,5", "=", "<<x"),
    ],
)
def test_what_looks_like_text_is_text(text: str) -> None:
    assert resolve_plain(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("", None), ("~", None), ("null", None), ("NULL", None), ("true", True)),
        *(("FALSE", False), ("0", 0), ("-7", -7), ("+7", 7), ("0o17", 15), ("0xFf", 255)),
        *(("1e3", 1000.0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("-1.5E-2", -0.015)),
        *((".inf", math.inf), ("-.Inf", -math.inf)),
    ],
)
def test_the_core_schema_knows_nothing_booleans_and_numbers(text: str, value: object) -> None:
    result = resolve_plain(text)
    assert result == value
    assert type(result) is type(value)


def test_nan_is_a_number() -> None:
    result = resolve_plain(".nan")
    assert isinstance(result, float)
    assert math.isnan(result)


def test_an_integer_too_long_for_python_stays_text() -> None:
    assert resolve_plain("9" * 5000) == "9" * 5000


@given(st.integers())
def test_every_integer_reads_as_itself(number: int) -> None:
    assert resolve_plain(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_as_itself(number: float) -> None:
    assert resolve_plain(repr(number)) == number


@given(st.text())
def test_any_text_is_a_scalar(text: str) -> None:
    assert isinstance(resolve_plain(text), str | int | float | bool | None)
