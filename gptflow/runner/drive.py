"""Driving a worker: while it works, the screen is kept fresh, signals and limits are heeded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from gptflow.errors import RunStopped
from gptflow.runner.budget import Budget
from gptflow.runner.display import Display
from gptflow.runner.interrupt import Interruption
from gptflow.runner.tally import Tally
from gptflow.runner.width import Width
from gptflow.runner.worker import Worker

REFRESH_S = 0.25


class Drained(Protocol):
    """What is drained when a run is to end: an engine, or what stands before it."""

    @property
    def in_flight(self) -> int:
        """Calls that are on the wire."""

    def drain(self, reason: RunStopped) -> None:
        """Lets a call that cannot be sent at once fail with `reason`, now and from now on."""


async def drive(
    worker: Worker,
    engine: Drained,
    width: Width,
    *,
    display: Display,
    tally: Tally,
    interruption: Interruption,
) -> None:
    """Lets a worker work to its end, or to where `interruption` ends it.

    Raises:
        RunStopped: no call can be answered any more.
    """
    work = asyncio.ensure_future(worker.run(width))

    def drain() -> None:
        worker.drain()
        engine.drain(RunStopped("the run was interrupted"))
        display.draining(engine.in_flight)

    refresher = asyncio.ensure_future(_refresh(display, tally))
    with interruption.handling(drain, work.cancel):
        try:
            await work
        except asyncio.CancelledError:
            if interruption.signal is None:
                raise
        finally:
            refresher.cancel()


@asynccontextmanager
async def within(
    budget: Budget,
    worker: Worker,
    engine: Drained,
    display: Display,
    interruption: Interruption,
) -> AsyncIterator[None]:
    """Drains the run when a limit is reached meanwhile; not if it has been interrupted before.

    No further row is begun then. Rows in flight go on as far as they have not to wait, and the
    calls on the wire are waited for.

    Raises:
        RunStopped: the limit.
    """
    has_drained = False

    async def heed() -> None:
        nonlocal has_drained
        reached = await budget.fall()
        if interruption.signal is None:
            has_drained = True
            worker.drain()
            engine.drain(reached.stop)
            display.draining(engine.in_flight, reached.limit)

    budget.look()
    if budget.reached:
        raise budget.reached.stop
    left_s = budget.left_s
    alarm = left_s and asyncio.get_running_loop().call_later(left_s, budget.expire)
    watch = asyncio.ensure_future(heed())
    try:
        yield
    except RunStopped:
        if not budget.reached:
            raise
        has_drained = True  # a call met the limit, and all ended before `heed` had its turn
    finally:
        watch.cancel()
        if alarm:
            alarm.cancel()
    if has_drained and budget.reached:
        raise budget.reached.stop


async def _refresh(display: Display, tally: Tally) -> None:
    while True:
        display.update(tally)
        await asyncio.sleep(REFRESH_S)
