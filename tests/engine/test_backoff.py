from __future__ import annotations

import asyncio

from gptflow.engine.backoff import Backoff, doubled
from gptflow.engine.clock import Clock


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    assert [doubled(0.5, times, 3.0) for times in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_wait_that_was_doubled_for_days_is_the_longest() -> None:
    assert doubled(0.5, 1_000_000, 30.0) == 30.0


def test_the_end_cuts_all_waits_short_and_those_that_begin_later() -> None:
    async def run() -> None:
        backoff = Backoff(Clock())
        waits = [asyncio.create_task(backoff.wait(3600)) for _ in range(3)]
        await asyncio.sleep(0)
        backoff.end()
        backoff.end()
        await asyncio.wait_for(asyncio.gather(*waits, backoff.wait(3600)), 5)

    asyncio.run(run())


def test_a_wait_that_is_cancelled_is_cancelled_and_not_ended() -> None:
    async def run() -> bool:
        wait = asyncio.create_task(Backoff(Clock()).wait(3600))
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.wait([wait])
        return wait.cancelled()

    assert asyncio.run(run())
