"""Driving the lanes: while they work, the screen is kept fresh, signals and limits are heeded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from gptflow.errors import RunStopped
from gptflow.records import RowStatus
from gptflow.runner.budget import Budget, Reached
from gptflow.runner.display import Display
from gptflow.runner.interrupt import Interruption
from gptflow.runner.tally import Tally
from gptflow.runner.width import Width

REFRESH_S = 0.25


class Driven(Protocol):
    """What is driven: lanes, or what brings rows to their ends in place of them."""

    on_result: Callable[[RowStatus], object]
    """Called as soon as a row has its result."""

    async def run(self, width: Width) -> None:
        """Works to the end, or to where `drain` ends it. RunStopped: nothing can go on."""

    def drain(self) -> None:
        """Takes no further row."""


class Drained(Protocol):
    """What is drained when a run is to end: an engine, or what stands before it."""

    @property
    def in_flight(self) -> int:
        """Calls that are on the wire."""

    def drain(self, reason: RunStopped) -> None:
        """Lets a call that cannot be sent at once fail with `reason`, now and from now on."""


async def drive(
    lanes: Driven,
    engine: Drained,
    width: Width,
    *,
    display: Display,
    tally: Tally,
    interruption: Interruption,
) -> None:
    """Lets the lanes work to their end, or to where `interruption` ends it.

    Raises:
        RunStopped: no call can be answered any more.
    """
    work = asyncio.ensure_future(lanes.run(width))

    def drain() -> None:
        lanes.drain()
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


@dataclass(slots=True)
class _Draining:
    """The end of a run that has reached a limit; not of one that was interrupted before."""

    lanes: Driven
    engine: Drained
    display: Display
    interruption: Interruption
    has_begun: bool = False

    def begin(self, reached: Reached) -> None:
        """Drains the run, once."""
        if self.interruption.signal is None and not self.has_begun:
            self.has_begun = True
            self.lanes.drain()
            self.engine.drain(reached.stop)
            self.display.draining(self.engine.in_flight, reached.limit)


@asynccontextmanager
async def within(
    budget: Budget,
    lanes: Driven,
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
    draining = _Draining(lanes, engine, display, interruption)

    async def watch() -> None:
        draining.begin(await budget.fall())

    def count(status: RowStatus) -> None:
        budget.count(status)
        if budget.reached:
            draining.begin(budget.reached)  # at once: the lane would begin the next row

    budget.look()
    if budget.reached:
        raise budget.conclude()
    lanes.on_result = count
    left_s = budget.left_s
    alarm = left_s and asyncio.get_running_loop().call_later(left_s, budget.expire)
    watching = asyncio.ensure_future(watch())
    try:
        yield
    except RunStopped:
        if not budget.reached:
            raise
        draining.has_begun = True  # a call met the limit, and all ended before `watch` had its turn
    finally:
        watching.cancel()
        if alarm:
            alarm.cancel()
    if draining.has_begun and budget.reached:
        raise budget.conclude()


async def _refresh(display: Display, tally: Tally) -> None:
    while True:
        display.update(tally)
        await asyncio.sleep(REFRESH_S)
