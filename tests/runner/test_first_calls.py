from __future__ import annotations

import asyncio
import socket

import pytest

from gptflow.engine.attempt import FaultKind
from gptflow.engine.clock import Clock
from gptflow.engine.config import Config, KeyEntry
from gptflow.engine.engine import Engine
from gptflow.engine.events import CallRetried, KeyRested, KeyUsed
from gptflow.engine.secret import Secret
from gptflow.errors import RunStopped
from gptflow.records import Call, Failure, FailureKind, Row, RowStatus, Usage
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent
from gptflow.runner.first_calls import ALIKE, LASTING_ATTEMPT, MANY, FirstCalls, heeded

ANSWERED = CallAnswered("label", "m", Usage(), reused=False)
REUSED = CallAnswered("label", "m", Usage(), reused=True)


def failed(
    position: int,
    message: str = "no such parameter",
    kind: FailureKind = FailureKind.REJECTED,
) -> RowEnded:
    return RowEnded(position, RowStatus.FAILED, Failure(kind, message, status=400))


def unconnected(key_name: str = "main", attempt: int = LASTING_ATTEMPT) -> CallRetried:
    fault = FaultKind.CONNECT
    return CallRetried("label", "m", key_name, attempt, 0.1, None, "connection refused", fault)


def heard(*events: RunEvent) -> FirstCalls:
    first_calls = FirstCalls()
    for event in events:
        first_calls.hear(event)
    return first_calls


def rejections(count: int, first: int = 0) -> list[RowEnded]:
    return [failed(position) for position in range(first, first + count)]


def test_ten_failures_alike_before_any_answer_are_a_verdict() -> None:
    first_calls = heard(*rejections(ALIKE - 1))
    assert first_calls.verdict is None
    first_calls.hear(failed(ALIKE - 1))
    assert first_calls.verdict is not None
    assert first_calls.verdict.message == "the first 10 calls all failed alike: no such parameter"
    assert "mend the spec or the config" in (first_calls.verdict.hint or "")


def test_the_rows_that_failed_by_it_are_remembered_also_those_after_the_verdict() -> None:
    first_calls = heard(*rejections(ALIKE), ANSWERED, *rejections(3, ALIKE))
    assert first_calls.positions == list(range(ALIKE + 3))


def test_one_answer_at_any_time_before_acquits() -> None:
    first_calls = heard(failed(0), ANSWERED, *rejections(50, 1))
    assert first_calls.verdict is None
    assert first_calls.positions == []


def test_a_reply_out_of_the_store_says_nothing_of_the_server() -> None:
    assert heard(REUSED, *rejections(ALIKE)).verdict is not None


def test_failures_that_differ_are_the_rows_own_and_end_the_watch() -> None:
    first_calls = heard(failed(0, "a label is missing"), *rejections(50, 1))
    assert first_calls.verdict is None
    assert first_calls.positions == []


def test_failures_that_differ_only_in_numbers_are_alike() -> None:
    told = (failed(n, f"8192 tokens at most, you sent {9000 + n}") for n in range(ALIKE))
    assert heard(*told).verdict is not None


def test_hosts_that_fail_in_different_words_are_alike() -> None:
    words = ("refused", "no such host")
    told = (failed(n, words[n % 2], FailureKind.TRANSPORT) for n in range(ALIKE))
    assert heard(*told).verdict is not None


@pytest.mark.parametrize("kind", [FailureKind.REFUSED, FailureKind.SERVER, FailureKind.TIMEOUT])
def test_a_failure_that_a_working_server_sends_acquits(kind: FailureKind) -> None:
    assert heard(failed(0, kind=kind), *rejections(50, 1)).verdict is None


@pytest.mark.parametrize("kind", [FailureKind.TEMPLATE, FailureKind.INVALID, FailureKind.BUG])
def test_a_failure_on_this_side_of_the_wire_is_no_evidence(kind: FailureKind) -> None:
    first_calls = heard(failed(99, kind=kind), *rejections(ALIKE))
    assert first_calls.verdict is not None
    assert first_calls.positions == list(range(ALIKE))


def begun(count: int, first_calls: FirstCalls) -> None:
    rows = (Row(n, n, b"k" * 16, 0, b"{}", {}) for n in range(count))
    assert [row.position for row in first_calls.watch(rows)] == list(range(count))


def test_refusals_that_overtake_the_answers_to_the_first_rows_are_no_verdict() -> None:
    first_calls = FirstCalls()
    begun(40, first_calls)
    for event in (*rejections(3), *rejections(20, 10)):
        first_calls.hear(event)
    assert first_calls.verdict is None
    first_calls.hear(ANSWERED)
    assert first_calls.positions == []


def test_when_the_first_rows_have_all_failed_it_is_a_verdict_whichever_failed_first() -> None:
    first_calls = FirstCalls()
    begun(40, first_calls)
    for event in (*rejections(20, 10), *rejections(ALIKE - 1)):
        first_calls.hear(event)
    assert first_calls.verdict is None
    first_calls.hear(failed(ALIKE - 1))
    assert first_calls.verdict is not None
    assert len(first_calls.positions) == 20 + ALIKE


@pytest.mark.parametrize(
    "silent",
    [RowEnded(0, RowStatus.DONE), failed(0, kind=FailureKind.TEMPLATE)],
    ids=["no call", "no prompt"],
)
def test_a_first_row_that_says_nothing_is_not_waited_for(silent: RowEnded) -> None:
    first_calls = FirstCalls()
    begun(ALIKE, first_calls)
    for event in (silent, *rejections(ALIKE, 1)):
        first_calls.hear(event)
    assert first_calls.verdict is not None


def test_a_first_row_that_hangs_holds_the_verdict_up_only_so_long() -> None:
    first_calls = FirstCalls()
    begun(ALIKE, first_calls)
    for event in rejections(MANY, 1):
        first_calls.hear(event)
    assert first_calls.verdict is not None


def test_a_run_that_had_answers_before_blames_no_spec() -> None:
    first_calls = FirstCalls()
    first_calls.trust_spec()
    for event in rejections(ALIKE):
        first_calls.hear(event)
    assert first_calls.verdict is None


# ------------------------------------------------------------------ nobody is there


def test_a_server_that_nobody_reaches_is_a_verdict_before_any_row_has_failed() -> None:
    first_calls = heard(KeyUsed("main"), *[unconnected()] * ALIKE)
    assert first_calls.verdict is not None
    assert first_calls.verdict.message == "no server answers: connection refused"
    assert "base_url" in (first_calls.verdict.hint or "")


def test_a_network_that_blinks_is_no_verdict() -> None:
    assert heard(*[unconnected(attempt=1)] * 100).verdict is None


def test_one_dead_host_is_no_verdict_while_another_key_is_at_work() -> None:
    first_calls = heard(KeyUsed("main"), KeyUsed("other"), *[unconnected()] * 50)
    assert first_calls.verdict is None
    first_calls.hear(unconnected("other"))
    assert first_calls.verdict is not None


@pytest.mark.parametrize("fault", [FaultKind.TIMEOUT, FaultKind.BROKEN, None])
def test_a_server_that_was_connected_to_is_waited_for(fault: FaultKind | None) -> None:
    status = 503 if fault is None else None
    retried = CallRetried("label", "m", "main", 5, 0.1, status, "hm", fault)
    assert heard(*[retried] * 50, *[unconnected()] * 50).verdict is None


@pytest.mark.parametrize("answer", [ANSWERED, KeyRested("other", 3.0, "slow down")])
def test_a_connection_that_is_lost_after_any_answer_is_no_verdict(answer: RunEvent) -> None:
    assert heard(answer, *[unconnected()] * 50).verdict is None


# ------------------------------------------------------------------ what a verdict does


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def ask_nobody(first_calls: FirstCalls, calls: int) -> None:
    """Asks a port where nobody listens; the waits before the fifth attempts have no end."""
    key = KeyEntry("main", Secret("key"), f"http://127.0.0.1:{dead_port()}/v1")
    call = Call(b"k" * 16, "label", "m", [{"role": "user", "content": "hi"}], {})
    waits = 0

    async def sleep(_: float) -> None:
        nonlocal waits
        waits += 1
        await asyncio.sleep(3600 if waits > calls * (LASTING_ATTEMPT - 1) else 0)

    engine = Engine(Config((key,)), clock=Clock(sleep=sleep), on_event=first_calls.hear)
    async with asyncio.timeout(10), engine, heeded(first_calls, engine):
        await asyncio.gather(*(engine.ask(call) for _ in range(calls)))


def test_calls_that_wait_to_be_tried_again_end_with_the_verdict() -> None:
    first_calls = FirstCalls()
    with pytest.raises(RunStopped) as stopped:
        asyncio.run(ask_nobody(first_calls, ALIKE))
    assert stopped.value is first_calls.verdict
    assert stopped.value.message.startswith("no server answers: cannot connect")


def test_a_stop_for_another_reason_stays_that_reason() -> None:
    async def run() -> None:
        engine = Engine(Config((KeyEntry("main", Secret("key")),)))
        async with engine, heeded(FirstCalls(), engine):
            raise RunStopped("no key is left")

    with pytest.raises(RunStopped, match="no key is left"):
        asyncio.run(run())
