from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.errors import UsageError
from gptflow.wrapper.chunks import chunks_of, dealt


@given(length=st.integers(0, 200), workers=st.integers(1, 50))
def test_chunks_hold_all_the_data_in_order_and_are_even(length: int, workers: int) -> None:
    chunks = chunks_of(range(length), workers)
    assert [item for chunk in chunks for item in chunk] == list(range(length))
    sizes = [len(chunk) for chunk in chunks]
    assert len(sizes) == min(workers, length)
    assert not sizes or (min(sizes) > 0 and max(sizes) - min(sizes) <= 1)


@given(length=st.integers(0, 200), workers=st.integers(1, 50))
def test_dealt_items_are_all_dealt_and_no_hand_is_empty(length: int, workers: int) -> None:
    hands = dealt(range(length), workers)
    assert sorted(item for hand in hands for item in hand) == list(range(length))
    assert all(hands)


@pytest.mark.parametrize("data", [("a", "b", "c"), iter("abc"), {"a": 1, "b": 2, "c": 3}.keys()])
def test_whatever_can_be_iterated_is_cut_into_lists(data: Any) -> None:
    assert chunks_of(data, 2) == [["a"], ["b", "c"]]


def test_a_table_is_cut_into_tables() -> None:
    class Table(list[int]):
        """As pandas has it: iterated, it gives the names of its columns."""

        @property
        def iloc(self) -> Table:
            return self

        def __getitem__(self, place: Any) -> Any:
            return Table(super().__getitem__(place))

    chunks = chunks_of(Table([1, 2, 3]), 2)
    assert chunks == [[1], [2, 3]]
    assert all(isinstance(chunk, Table) for chunk in chunks)


@pytest.mark.parametrize("data", ["text", b"bytes", {"a": 1}, None, 7])
def test_what_is_no_sequence_of_items_is_refused(data: Any) -> None:
    with pytest.raises(UsageError, match="not a sequence of items"):
        chunks_of(data, 2)
