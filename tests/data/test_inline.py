from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from gptflow.data.sources.inline import InlineSource, RangeSource
from gptflow.errors import DataError


def inline(*rows: dict[str, Any]) -> InlineSource:
    return InlineSource(rows, lambda number: ("spec.yaml", number + 10))


def test_rows_keep_their_values_and_their_order() -> None:
    row = {"b": 10**30, "a": [1.5, None, {"x": "größer"}], "c": "\ud800"}

    (record,) = inline(row).records()

    assert record.columns == row
    assert list(record.columns) == ["b", "a", "c"]
    assert record.raw.startswith(b'{"b": 1000000000000000000000000000000, ')


def test_templates_see_what_the_output_says() -> None:
    (record,) = inline({"a": {1: (2, 3)}}).records()

    assert record.raw == b'{"a": {"1": [2, 3]}}'
    assert record.columns == {"a": {"1": [2, 3]}}


def test_text_beyond_ascii_stays_readable() -> None:
    (record,) = inline({"a": "größer"}).records()

    assert record.raw == '{"a": "größer"}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), date(2020, 1, 1), {1, 2}, b"x"])
def test_a_value_that_json_cannot_hold_is_named_with_its_line(value: object) -> None:
    with pytest.raises(DataError, match=r"^spec\.yaml:11: a row that JSON cannot hold: "):
        list(inline({"a": 1}, {"a": value}).records())


def test_a_range_has_numbered_rows() -> None:
    records = list(RangeSource(3, ("spec.yaml", 2)).records())

    assert [record.columns for record in records] == [{"index": 0}, {"index": 1}, {"index": 2}]
    assert records[2].raw == b'{"index":2}'
