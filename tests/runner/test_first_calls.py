from __future__ import annotations

import pytest

from gptflow.engine.events import CallRetried
from gptflow.records import Failure, FailureKind, RowStatus, Usage
from gptflow.runner.events import CallAnswered, RowEnded
from gptflow.runner.first_calls import ALIKE, LASTING_ATTEMPT, FirstCalls

ANSWERED = CallAnswered("label", "m", Usage(), reused=False)


def failed(position: int, message: str = "no such parameter", **rest: FailureKind) -> RowEnded:
    kind = rest.get("kind", FailureKind.REJECTED)
    return RowEnded(position, RowStatus.FAILED, Failure(kind, message, status=400))


def retried(status: int | None, attempt: int = LASTING_ATTEMPT) -> CallRetried:
    return CallRetried("label", "m", "main", attempt, 0.1, status, "connection refused")


def test_a_network_that_blinks_is_no_verdict() -> None:
    first_calls = FirstCalls()
    for _ in range(100):
        first_calls.hear(retried(status=None, attempt=1))
    assert first_calls.verdict is None


def test_ten_failures_alike_before_any_answer_are_a_verdict() -> None:
    first_calls = FirstCalls()
    for position in range(ALIKE - 1):
        first_calls.hear(failed(position))
    assert first_calls.verdict is None
    first_calls.hear(failed(ALIKE - 1))
    assert first_calls.verdict is not None
    assert first_calls.verdict.message == ("the first 10 calls all failed alike: no such parameter")
    assert "mend the spec or the config" in (first_calls.verdict.hint or "")


def test_the_rows_that_failed_by_it_are_remembered_also_those_after_the_verdict() -> None:
    first_calls = FirstCalls()
    for position in range(ALIKE + 3):
        first_calls.hear(failed(position))
    assert first_calls.positions == list(range(ALIKE + 3))


def test_the_verdict_falls_once_and_tells_that_a_server_answers() -> None:
    first_calls = FirstCalls()
    told: list[bool] = []
    first_calls.on_verdict = told.append
    for position in range(ALIKE + 3):
        first_calls.hear(failed(position))
    assert told == [True]


def test_one_answer_at_any_time_before_acquits() -> None:
    first_calls = FirstCalls()
    first_calls.hear(failed(0))
    first_calls.hear(ANSWERED)
    for position in range(1, 50):
        first_calls.hear(failed(position))
    assert first_calls.verdict is None


def test_failures_that_differ_are_the_rows_own() -> None:
    first_calls = FirstCalls()
    for position in range(50):
        first_calls.hear(failed(position, f"text {position} is too long"))
    assert first_calls.verdict is None


@pytest.mark.parametrize("kind", [FailureKind.INVALID, FailureKind.REFUSED, FailureKind.TEMPLATE])
def test_a_rows_own_failure_shows_that_the_server_answers(kind: FailureKind) -> None:
    first_calls = FirstCalls()
    first_calls.hear(failed(0, kind=kind))
    for position in range(1, 50):
        first_calls.hear(failed(position))
    assert first_calls.verdict is None


def test_a_server_that_nobody_reaches_is_a_verdict_before_any_row_has_failed() -> None:
    first_calls = FirstCalls()
    told: list[bool] = []
    first_calls.on_verdict = told.append
    for _ in range(ALIKE):
        first_calls.hear(retried(status=None))
    assert first_calls.verdict is not None
    assert first_calls.verdict.message == "no server answers: connection refused"
    assert "base_url" in (first_calls.verdict.hint or "")
    assert told == [False]


def test_a_server_that_answers_with_errors_is_waited_for() -> None:
    first_calls = FirstCalls()
    for _ in range(50):
        first_calls.hear(retried(status=503))
    assert first_calls.verdict is None


def test_a_connection_that_breaks_after_the_first_answer_is_no_verdict() -> None:
    first_calls = FirstCalls()
    first_calls.hear(ANSWERED)
    for _ in range(50):
        first_calls.hear(retried(status=None))
    assert first_calls.verdict is None
