"""Driving a worker: while it works, the screen is kept fresh and signals are heeded."""

from __future__ import annotations

import asyncio

from gptflow.engine.engine import Engine
from gptflow.errors import RunStopped
from gptflow.runner.display import Display
from gptflow.runner.interrupt import Interruption
from gptflow.runner.tally import Tally
from gptflow.runner.width import Width
from gptflow.runner.worker import Worker

REFRESH_S = 0.25


async def drive(
    worker: Worker,
    engine: Engine,
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


async def _refresh(display: Display, tally: Tally) -> None:
    while True:
        display.update(tally)
        await asyncio.sleep(REFRESH_S)
