"""The rows that a function makes of records, in the first pass and in the second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gptflow.data.replay import replay
from gptflow.data.selection import Selection
from gptflow.data.sources.inline import InlineSource
from gptflow.data.survey import Survey
from gptflow.data.transform import SAME_HINT, TransformedSource
from gptflow.errors import DataError
from gptflow.records import Columns

Transform = Callable[[Columns], list[Columns]]


def source(transform: Transform, *rows: Columns, identity: str = "f") -> TransformedSource:
    inline = InlineSource(list(rows), lambda number: ("rows.jsonl", number + 1))
    return TransformedSource(inline, transform, identity)


def parts(columns: Columns) -> list[Columns]:
    return [{**columns, "t": part} for part in columns["t"].split("|") if part]


THREE = ({"t": "a|b"}, {"t": ""}, {"t": "c|d|e"})


def surveyed(made: TransformedSource, **selection: Any) -> list[tuple[int, int, bytes]]:
    return [entry for batch in Survey(made, Selection(**selection)).batches() for entry in batch]


def texts(made: TransformedSource, wanted: list[tuple[int, int, bytes]]) -> list[str]:
    rows = replay(made, ((*entry, 0) for entry in wanted))
    return [row.columns["t"] for row in rows]


def test_a_record_becomes_its_rows_in_their_order() -> None:
    records = list(source(parts, *THREE).records())
    assert [record.columns["t"] for record in records] == ["a", "b", "c", "d", "e"]
    assert [record.line for record in records] == [1, 1, 3, 3, 3]
    assert [record.raw for record in records][:1] == [b'{"t":"a"}']
    numbers = [record.number for record in records]
    assert numbers == sorted(set(numbers))


def test_a_row_that_is_left_as_it_is_keeps_the_bytes_of_its_record() -> None:
    (record,) = source(lambda columns: [columns], {"t": "a", "n": 1.0}).records()
    assert record.raw == b'{"t": "a", "n": 1.0}'
    (changed,) = source(lambda columns: [{**columns, "n": 1}], {"t": "a", "n": 1.0}).records()
    assert changed.raw == b'{"t":"a","n":1}'


def test_the_second_pass_transforms_wanted_records_alone() -> None:
    seen: list[str] = []

    def noting(columns: Columns) -> list[Columns]:
        seen.append(columns["t"])
        return parts(columns)

    made = source(noting, *THREE)
    entries = surveyed(made)
    assert texts(made, entries) == ["a", "b", "c", "d", "e"]
    seen.clear()
    assert texts(made, [entries[3]]) == ["d"]
    assert texts(made, [entries[2], entries[4]]) == ["c", "e"]
    assert seen == ["c|d|e", "c|d|e"]


def test_where_limit_and_sample_see_its_rows() -> None:
    made = source(parts, *THREE)
    assert texts(made, surveyed(made, where=lambda columns: columns["t"] > "b")) == ["c", "d", "e"]
    assert texts(made, surveyed(made, limit=3)) == ["a", "b", "c"]


def test_a_function_that_gives_something_else_the_next_time_is_told_so() -> None:
    given = iter([[{"t": 1}], [{"t": 2}], [{"t": 1}, {"t": 2}], [{"t": 1}]])
    made = source(lambda _: next(given), {"t": ""})
    for told in ("rows.jsonl:1 is another row", "has become 1 rows, and was more"):
        entries = surveyed(made)
        with pytest.raises(DataError) as error:
            list(replay(made, ((*entry, 0) for entry in entries[-1:])))
        assert told in error.value.message
        assert error.value.hint == SAME_HINT


def test_what_it_raises_is_placed_at_the_record() -> None:
    def failing(columns: Columns) -> list[Columns]:
        raise DataError(f"no {columns['t']}")

    with pytest.raises(DataError, match=r"^rows.jsonl:1: no a\n"):
        list(source(failing, {"t": "a"}).records())


def test_another_function_makes_another_source() -> None:
    made = [source(parts, *THREE, identity=identity).fingerprint() for identity in "ffg"]
    assert made[0] == made[1] != made[2]
