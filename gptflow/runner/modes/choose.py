"""Which mode the spec asks for: who brings the rows of a run to their results."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from msgspec.structs import replace

from gptflow import __version__
from gptflow.engine.engine import MOST_IN_FLIGHT
from gptflow.runner.crew.foreman import Foreman
from gptflow.runner.crew.hand import Answering, Orders
from gptflow.runner.crew.inside import Craft
from gptflow.runner.crew.link import Mode
from gptflow.runner.crew.messages import Begin, Progress
from gptflow.runner.desk import Desk
from gptflow.runner.lanes import Converse
from gptflow.runner.modes.process import Processes
from gptflow.runner.modes.ray import RayMode
from gptflow.runner.modes.thread import Threads
from gptflow.runner.prepare import Prepared
from gptflow.runner.processors import usable_processors
from gptflow.runner.server import Server
from gptflow.runner.talk import Talk
from gptflow.spec.model import ParallelismSpec, WorkersRange
from gptflow.store.spacing import Spacing

_BUSY_S, _BUSY_SHARE = 0.01, 0.2


class Crew(NamedTuple):
    """Who brings the rows of a run to their results."""

    converse: Converse
    drain: Callable[[], object] = lambda: None
    """Lets the rows fail with RunStopped that wait for a worker."""


class Sharding(NamedTuple):
    """What differs for workers whose rows are shards."""

    craft: Craft
    on_progress: Callable[[Progress], object]


@asynccontextmanager
async def shard_crew(
    prepared: Prepared,
    shards: int,
    server: Server,
    desk: Answering,
    say: Callable[[str], object],
    sharding: Sharding,
) -> AsyncIterator[Crew]:
    """Who works on whole shards, while it is open: actors on a Ray cluster.

    Raises:
        GptflowError: there can be none.
    """
    begin = replace(_begin(prepared, server), craft=pickle.dumps(sharding.craft))
    orders = dataclasses.replace(
        _orders(prepared, server), begin=begin, on_progress=sharding.on_progress
    )
    parallelism = prepared.spec.parallelism
    mode = RayMode(parallelism.ray, _range(parallelism), say)
    async with _hired(mode, min(_workers(parallelism), shards), orders, desk, say) as opened:
        yield opened


@asynccontextmanager
async def crew(
    prepared: Prepared, rows: int, server: Server, desk: Desk, say: Callable[[str], object]
) -> AsyncIterator[Crew]:
    """Who talks with the rows, while it is open: this event loop itself, or workers elsewhere.

    `rows`: how many there are; workers without one are not hired.

    Raises:
        GptflowError: there can be none.
    """
    plan, parallelism = prepared.plan, prepared.spec.parallelism
    mode = _mode(parallelism, say)
    if mode is None:
        yield Crew(Talk(plan, desk.reply).converse)
        return
    workers = min(_workers(parallelism), rows)
    async with _hired(mode, workers, _orders(prepared, server), desk, say) as opened:
        yield opened


@asynccontextmanager
async def _hired(
    mode: Mode, workers: int, orders: Orders, desk: Answering, say: Callable[[str], object]
) -> AsyncIterator[Crew]:
    async with (
        _closing(mode),
        Foreman(mode, workers, orders, desk, say) as foreman,
    ):
        if isinstance(mode, RayMode):
            mode.on_busy = foreman.grow
        yield Crew(foreman.converse, foreman.drain)


def commit_spacing(parallelism: ParallelismSpec) -> Spacing | None:
    """The time between two commits of the store; None for what fits one event loop.

    Where others do the work, the run's process takes part of a core with much to write: what waits
    for the disk then is a row elsewhere, and larger groups are cheaper.
    """
    if parallelism.mode in ("async", "batch"):
        return None
    return Spacing(busy_s=_BUSY_S, busy_share=_BUSY_SHARE)


def _mode(parallelism: ParallelismSpec, say: Callable[[str], object]) -> Mode | None:
    """Where the workers live; None for this event loop."""
    match parallelism.mode:
        case "ray":
            return RayMode(parallelism.ray, _range(parallelism), say)
        case "thread":
            return Threads()
        case "process":
            return Processes()
        case _:
            return None


@asynccontextmanager
async def _closing(mode: Mode) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await mode.close()


def _range(parallelism: ParallelismSpec) -> int | WorkersRange:
    wanted = parallelism.workers
    return wanted if isinstance(wanted, WorkersRange) else _workers(parallelism)


def most_workers(parallelism: ParallelismSpec) -> int:
    """How many workers there may come to be."""
    wanted = _range(parallelism)
    return wanted.max if isinstance(wanted, WorkersRange) else wanted


def _workers(parallelism: ParallelismSpec) -> int:
    wanted = parallelism.workers
    if isinstance(wanted, WorkersRange):
        return wanted.min
    return usable_processors() if wanted == "auto" else wanted


def _orders(prepared: Prepared, server: Server) -> Orders:
    parallelism = prepared.spec.parallelism
    keys = tuple(key.name for key in server.config.keys)
    tells_keys = parallelism.mode != "ray" or parallelism.ray.config is None
    return Orders(prepared.plan, _begin(prepared, server), keys, tells_keys)


def _begin(prepared: Prepared, server: Server) -> Begin:
    plan, concurrency = prepared.plan, prepared.spec.parallelism.concurrency
    return Begin(
        version=__version__,
        plan=pickle.dumps(plan),
        plan_digest=plan.digest,
        timeout_s=prepared.spec.limits.timeout_s,
        connections=MOST_IN_FLIGHT if concurrency == "auto" else concurrency,
        tells_messages=server.rehearsal is not None,
    )
