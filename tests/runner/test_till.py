from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gptflow.engine.caller import Send
from gptflow.errors import CallFailed, RunStopped
from gptflow.records import Call, Failure, FailureKind, Reply, Usage
from gptflow.runner.budget import Budget
from gptflow.runner.price import Price
from gptflow.runner.purse import Purse
from gptflow.runner.tally import Tally
from gptflow.runner.till import Till
from gptflow.spec.limits import LimitsSpec

OUTPUT_USD = 0.001
"""A token of a reply; prompts are free here."""


def call(most_tokens: int = 100) -> Call:
    messages = [{"role": "user", "content": "hi"}]
    return Call(b"k" * 16, f"step {most_tokens}", "m", messages, {"max_tokens": most_tokens})


class Server:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[int]] = []
        self.in_flight = 0
        self.drained: RunStopped | None = None

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        del call, prefer, send
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.asked.append(answer)
        self.in_flight += 1
        try:
            tokens = await answer
        finally:
            self.in_flight -= 1
        return Reply("", "stop", Usage(1, tokens), "m", b"")

    def drain(self, reason: RunStopped) -> None:
        self.drained = reason

    async def answer(self, *tokens: int) -> None:
        """Answers the calls that were asked first, with so many tokens each."""
        for count in tokens:
            self.asked.pop(0).set_result(count)
        await settled()


async def settled() -> None:
    """Lets everybody have their turn."""
    for _ in range(20):
        await asyncio.sleep(0)


class Bench:
    """A till with a limit, before a server."""

    def __init__(self, limit_usd: float, spent_usd: float = 0.0) -> None:
        self.server = Server()
        self.budget = Budget(LimitsSpec(cost_usd=limit_usd), Tally())
        self.purse = Purse(limit_usd, {"m": Price(0.0, OUTPUT_USD, 0.0)})
        self.purse.spent_usd = spent_usd
        self.till = Till(self.purse, self.budget, self.server, self.server)

    async def ask(self, *most_tokens: int) -> list[asyncio.Task[Reply]]:
        asks = [asyncio.ensure_future(self.till.ask(call(most))) for most in most_tokens]
        await settled()
        return asks


def run(test: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(in_time())


def test_calls_go_as_far_as_there_is_room_and_the_others_wait_for_them() -> None:
    async def test() -> None:
        bench = Bench(0.25)
        asks = await bench.ask(*[100] * 4)
        assert (len(bench.server.asked), bench.till.in_line) == (2, 2)
        await bench.server.answer(10)  # cheaper than was thought, so the others are, too
        assert (len(bench.server.asked), bench.till.in_line) == (3, 0)
        await bench.server.answer(10, 10, 10)
        await asyncio.gather(*asks)
        assert bench.purse.spent_usd == pytest.approx(0.04)
        assert bench.budget.reached is None

    run(test())


def test_sixty_four_lanes_with_money_for_one_call_all_come_to_an_end() -> None:
    async def test() -> None:
        bench = Bench(0.15)
        asks = await bench.ask(*[100] * 64)
        assert len(bench.server.asked) == 1
        await bench.server.answer(100)
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
        assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, RunStopped) for outcome in outcomes) == 63
        assert bench.server.asked == []

    run(test())


def test_a_call_that_has_no_room_at_all_stops_the_run_and_says_how_to_go_on() -> None:
    async def test() -> None:
        bench = Bench(5.0, spent_usd=4.98)
        with pytest.raises(RunStopped) as stopped:
            await bench.till.ask(call(100))
        assert str(stopped.value) == (
            "limits.cost_usd is reached: $4.98 of $5.00 spent; the next call may cost $0.10\n"
            "Hint: raise it to go on: --set limits.cost_usd=10"
        )
        assert bench.budget.reached is not None
        assert bench.budget.reached.options == ("--set", "limits.cost_usd=10")
        assert bench.server.asked == []

    run(test())


def test_a_call_that_failed_gives_back_what_was_reserved_for_it() -> None:
    async def test() -> None:
        bench = Bench(0.15)
        first, second = await bench.ask(100, 100)
        bench.server.asked.pop(0).set_exception(CallFailed(Failure(FailureKind.SERVER, "no")))
        await settled()
        assert isinstance(first.exception(), CallFailed)
        await bench.server.answer(100)
        assert second.result().usage.completion_tokens == 100

    run(test())


def test_a_refusal_is_paid() -> None:
    async def test() -> None:
        bench = Bench(1.0)
        await bench.ask(100)
        refusal = Reply("", "content_filter", Usage(1, 70), "m", b"")
        failure = Failure(FailureKind.REFUSED, "no")
        bench.server.asked[0].set_exception(CallFailed(failure, refusal))
        await settled()
        assert bench.purse.spent_usd == pytest.approx(0.07)

    run(test())


def test_draining_ends_what_waits_and_lets_go_what_has_room() -> None:
    async def test() -> None:
        bench = Bench(0.25)
        first, second, third = await bench.ask(100, 100, 100)
        reason = RunStopped("the run was interrupted")
        bench.till.drain(reason)
        await settled()
        assert isinstance(third.exception(), RunStopped)
        assert bench.server.drained is reason
        (fourth,) = await bench.ask(100)
        assert isinstance(fourth.exception(), RunStopped)
        (fifth,) = await bench.ask(40)
        await bench.server.answer(100, 100, 40)
        await asyncio.gather(first, second, fifth)
        assert bench.budget.reached is None

    run(test())


@pytest.mark.parametrize("cancelled", [0, 1])
def test_a_call_that_is_cancelled_leaves_its_room_or_its_place_to_others(cancelled: int) -> None:
    async def test() -> None:
        bench = Bench(0.25)
        asks = await bench.ask(200, 210, 40)
        assert (len(bench.server.asked), bench.till.in_line) == (1, 2)
        asks[cancelled].cancel()
        await settled()
        left = [answer for answer in bench.server.asked if not answer.done()]
        assert (len(left), bench.till.in_line) == (2, 0)

    run(test())


def test_a_call_that_is_cancelled_as_its_turn_comes_gives_the_turn_on() -> None:
    async def test() -> None:
        bench = Bench(0.15)
        _, second, third = await bench.ask(100, 100, 100)
        bench.purse.limit_usd = 0.25
        bench.till._move()
        second.cancel()
        await settled()
        assert second.cancelled()
        await bench.server.answer(100, 100)
        assert third.done()

    run(test())
