from __future__ import annotations

from gptflow.engine.backoff import doubled


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    assert [doubled(0.5, times, 3.0) for times in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_wait_that_was_doubled_for_days_is_the_longest() -> None:
    assert doubled(0.5, 1_000_000, 30.0) == 30.0
