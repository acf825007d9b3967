"""The line of calls that wait for a key, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gptflow.engine.clock import Clock
from gptflow.engine.config import KeyEntry
from gptflow.engine.dispatch import Dispatcher
from gptflow.engine.keys import KeyPool, Lease
from gptflow.engine.secret import Secret
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped


class Time:
    """A clock that stands still until everyone waits, and then goes to the next moment."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock(now=lambda: self.now, sleep=self.sleep)

    async def sleep(self, delay_s: float) -> None:
        until = self.now + delay_s
        for _ in range(10):
            await asyncio.sleep(0)
        self.now = max(self.now, until)


def run(
    steps: Callable[[Dispatcher, Time], Awaitable[None]],
    *keys: tuple[str, str],
    max_in_flight: int = 9,
    waits_for_keys: bool = False,
) -> None:
    """Runs `steps` with keys that serve one model each: ("a", "big")."""

    async def inside() -> None:
        time = Time()
        pool = KeyPool([KeyEntry(name, Secret(name), models=(model,)) for name, model in keys])
        dispatcher = Dispatcher(
            pool, time.clock, max_in_flight, "config.json", lambda _: waits_for_keys
        )
        async with asyncio.timeout(5):
            await steps(dispatcher, time)
        dispatcher.close()

    asyncio.run(inside())


def verdict(kind: VerdictKind, wait_s: float | None = None) -> Verdict:
    return Verdict(kind, "because", wait_s=wait_s)


async def started(dispatcher: Dispatcher, *models: str) -> list[asyncio.Task[Lease]]:
    """Calls that wait in line, in this order."""
    tasks = [asyncio.create_task(dispatcher.lease(model)) for model in models]
    await asyncio.sleep(0)
    return tasks


def test_who_came_first_is_served_first() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        held = await line.lease("big")
        waiting = await started(line, "small", "big", "small")
        order: list[int] = []
        for task in waiting:
            task.add_done_callback(lambda done: order.append(waiting.index(done)))
        for _turn in waiting:
            line.settle(held, None)
            await asyncio.sleep(0.001)
            held = waiting[order[-1]].result()
        assert order == [0, 1, 2]

    run(steps, ("a", "big"), ("b", "small"), max_in_flight=1)


def test_a_model_whose_keys_rest_does_not_hold_up_the_others() -> None:
    async def steps(line: Dispatcher, time: Time) -> None:
        line.settle(await line.lease("big"), verdict(VerdictKind.REST, 60.0))
        await started(line, "big")

        assert (await line.lease("small")).key.name == "b"
        assert time.now == 0.0

    run(steps, ("a", "big"), ("b", "small"))


def test_each_line_moves_when_its_own_key_wakes() -> None:
    async def steps(line: Dispatcher, time: Time) -> None:
        line.settle(await line.lease("big"), verdict(VerdictKind.REST, 5.0))
        line.settle(await line.lease("small"), verdict(VerdictKind.REST, 9.0))
        big, small = await started(line, "big", "small")

        await big
        assert time.now == 5.0
        await small
        assert time.now == 9.0

    run(steps, ("a", "big"), ("b", "small"))


def test_a_shorter_rest_rings_before_a_longer_one_that_was_known_first() -> None:
    async def steps(line: Dispatcher, time: Time) -> None:
        line.settle(await line.lease("small"), verdict(VerdictKind.REST, 9.0))
        line.settle(await line.lease("big"), verdict(VerdictKind.REST, 5.0))
        _, big = await started(line, "small", "big")

        await big
        assert time.now == 5.0

    run(steps, ("a", "big"), ("b", "small"))


def test_a_lease_given_to_a_call_in_the_moment_of_its_end_is_not_lost() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        held = await line.lease("big")
        (waiting,) = await started(line, "big")
        line.settle(held, None)
        waiting.cancel()

        assert (await line.lease("big")).key.name == "a"

    run(steps, ("a", "big"), max_in_flight=1)


def test_a_lease_whose_settling_raises_gives_its_slot_back() -> None:
    async def inside() -> None:
        moments = iter([0.0])  # of the lease; there is none for its settling
        pool = KeyPool([KeyEntry("a", Secret("a"))])
        line = Dispatcher(pool, Clock(now=lambda: next(moments)), 1, "config.json")
        held = await line.lease("big")
        with pytest.raises(StopIteration):
            line.settle(held, None)
        moments = iter([1.0])
        async with asyncio.timeout(1):
            await line.lease("big")

    asyncio.run(inside())


def test_a_call_that_ended_while_it_waited_is_passed_over() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        held = await line.lease("big")
        first, second = await started(line, "big", "big")
        first.cancel()
        await asyncio.sleep(0)
        line.settle(held, None)

        assert (await second).key.name == "a"

    run(steps, ("a", "big"), max_in_flight=1)


def test_when_the_last_key_goes_every_waiting_call_is_told() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        held = await line.lease("big")
        ended, *waiting = await started(line, "big", "big", "big")
        ended.cancel()
        await asyncio.sleep(0)
        line.settle(held, verdict(VerdictKind.RETIRED))
        told = await asyncio.gather(*waiting, return_exceptions=True)

        assert [type(one) for one in told] == [RunStopped, RunStopped]
        assert told[0] is not told[1]

    run(steps, ("a", "big"), max_in_flight=1)


def test_a_stop_reaches_those_who_wait_and_those_who_come_later() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        await line.lease("big")
        ended, waiting = await started(line, "big", "big")
        ended.cancel()
        line.stop(RunStopped("no way", hint="go home"))

        for late in (waiting, line.lease("big")):
            with pytest.raises(RunStopped, match="no way\nHint: go home"):
                await late

    run(steps, ("a", "big"), max_in_flight=1)


def test_a_model_that_no_entry_names_is_told_with_what_the_entries_name() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        with pytest.raises(RunStopped, match=r"a \(…\): its entry names only big"):
            await line.lease("huge")

    run(steps, ("a", "big"))


def test_closing_cancels_those_who_still_wait() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        line.settle(await line.lease("big"), verdict(VerdictKind.REST, 60.0))
        (waiting,) = await started(line, "big")
        line.close()

        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(steps, ("a", "big"))


def test_a_line_without_a_key_may_wait_until_there_are_others() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        line.settle(await line.lease("big"), verdict(VerdictKind.EXHAUSTED))
        (waiting,) = await started(line, "big")
        assert (await line.lease("small")).key.name == "b"
        assert not waiting.done()
        line._pool.replace([KeyEntry("c", Secret("c"))])
        line.move()

        assert (await waiting).key.name == "c"

    run(steps, ("a", "big"), ("b", "small"), waits_for_keys=True)


def test_a_call_that_was_cancelled_is_no_longer_in_line() -> None:
    async def steps(line: Dispatcher, _: Time) -> None:
        await line.lease("big")
        (waiting,) = await started(line, "big")
        before = line.in_line
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        assert (before, line.in_line) == (1, 0)

    run(steps, ("a", "big"), max_in_flight=1)
