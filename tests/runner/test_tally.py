from __future__ import annotations

import pytest

from gptflow.engine.events import CallRetried, KeyRested
from gptflow.records import Failure, FailureKind, RowStatus, Usage
from gptflow.runner.events import CallAnswered, RowEnded
from gptflow.runner.tally import Tally, TokenCount


def answered(usage: Usage, model: str = "m", *, reused: bool = False) -> CallAnswered:
    return CallAnswered("label", model, usage, reused)


def test_calls_are_counted_with_their_tokens_by_model() -> None:
    tally = Tally()
    tally.hear(answered(Usage(10, 2, 4)))
    tally.hear(answered(Usage(20, 3, None)))
    tally.hear(answered(Usage(1, 1), model="n"))
    assert tally.calls == 3
    assert dict(tally.tokens) == {"m": TokenCount(30, 5, 4), "n": TokenCount(1, 1)}
    assert tally.total_tokens == 37


def test_a_reused_call_costs_nothing() -> None:
    tally = Tally()
    tally.hear(answered(Usage(10, 2), reused=True))
    assert (tally.calls, tally.reused_calls, tally.total_tokens) == (0, 1, 0)
    assert dict(tally.tokens) == {}


def test_tokens_that_the_server_does_not_tell_are_unknown_and_not_none() -> None:
    tally = Tally()
    tally.hear(answered(Usage()))
    tally.hear(answered(Usage(prompt_tokens=7)))
    assert tally.tokens["m"] == TokenCount(prompt=7)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (Usage(10, 2, 15), TokenCount(10, 2, 10)),
        (Usage(None, 2, 15), TokenCount(0, 2, 0)),
        (Usage(-10, -2, -1), TokenCount()),
        (Usage(10, 2, -1), TokenCount(10, 2, 0)),
    ],
)
def test_counts_that_cannot_be_true_are_taken_as_unknown(usage: Usage, counted: TokenCount) -> None:
    tally = Tally(tokens={"m": TokenCount()})
    tally.hear(answered(usage))
    assert tally.tokens["m"] == counted


def test_rows_are_counted_by_what_became_of_them() -> None:
    tally = Tally(rows=10, done=3, failed=1)
    tally.hear(RowEnded(4, RowStatus.DONE))
    tally.hear(RowEnded(5, RowStatus.FAILED, Failure(FailureKind.INVALID, "Hm.")))
    assert (tally.done, tally.failed, tally.pending, tally.ended_here) == (4, 2, 4, 2)


def test_retries_are_counted_and_rests_of_a_key_are_not() -> None:
    tally = Tally()
    tally.hear(CallRetried("label", "m", "main", 1, 0.1, 503, "overloaded"))
    tally.hear(KeyRested("main", 3.0, "slow down"))
    assert tally.retries == 1
