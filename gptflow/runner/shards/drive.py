"""Driving the shards of a run: which is where, and the calls that they have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec

from gptflow.engine.caller import Send
from gptflow.errors import CallFailed, GptflowError, RunStopped
from gptflow.records import Call, Reply, Row, RowResult, RowStatus
from gptflow.runner.begin import Retry
from gptflow.runner.crew.messages import Progress
from gptflow.runner.desk import Answer, Asker
from gptflow.runner.events import CallAnswered, Listener, fan_out
from gptflow.runner.modes.choose import Sharding, most_workers, shard_crew
from gptflow.runner.prepare import Prepared
from gptflow.runner.purse import Purse
from gptflow.runner.run_engine import asker_of, key_shares, run_engine
from gptflow.runner.server import Server
from gptflow.runner.shards.craft import ShardCraft
from gptflow.runner.shards.shard import Marker, Shard
from gptflow.runner.till import Till
from gptflow.runner.watchers import Watchers
from gptflow.runner.width import Width

Converse = Callable[[Row], Awaitable[RowResult | None]]


class Counter:
    """A desk that stores nothing: the worker that asks has looked in its store before."""

    def __init__(self, asker: Asker, emit: Listener) -> None:
        self._asker = asker
        self._emit = emit
        self._stopped: RunStopped | None = None

    def stop(self, reason: RunStopped) -> None:
        """Lets no call be asked any more: each shard ends with its calls on the wire."""
        self._stopped = self._stopped or reason

    async def answer(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Answer:
        """Has a call asked.

        Raises:
            CallFailed: there is no reply, and will be none.
            RunStopped: no call can be answered any more.
            SenderLost: by way of `send`.
        """
        if self._stopped is not None:
            raise self._stopped.again()
        try:
            reply = await self._asker.ask(call, prefer=prefer, send=send)
        except CallFailed as failed:
            if failed.reply is not None:
                self._count(call, failed.reply)
            raise
        self._count(call, reply)
        return Answer(reply.body, reply)

    def _count(self, call: Call, reply: Reply) -> None:
        self._emit(CallAnswered(call.step, call.model, reply.usage, reused=False))


class _Counts(NamedTuple):
    """What was told of a shard last."""

    rows: int
    done: int = 0
    failed: int = 0
    reused_calls: int = 0


class _Lanes:
    """Hands out shards, one to each lane, until all have their markers."""

    def __init__(
        self, shards: Sequence[Shard], lanes: int, desk: Counter, watchers: Watchers
    ) -> None:
        self._left = iter(enumerate(shards))
        self._lanes = min(lanes, len(shards))
        self._desk = desk
        self._tally = watchers.tally
        self._told = [_Counts(shard.rows) for shard in shards]
        self._draining = False
        self._ended_by: GptflowError | None = None
        self.converse: Converse
        self.on_drain: Callable[[], object] = lambda: None
        self.on_marker: Callable[[Shard, Marker], object] = lambda *_: None
        self.on_result: Callable[[RowStatus], object] = lambda _: None
        """Called for each row that has ended."""

    def drain(self) -> None:
        """Hands out no further shard; those that are out end with their calls on the wire."""
        self._draining = True
        self._desk.stop(RunStopped("the run was interrupted"))
        self.on_drain()

    async def run(self, width: Width) -> None:
        """Works until all shards have their markers, or `drain` was called.

        Raises:
            GptflowError: why a shard could not go on; the others have ended well first.
        """
        del width  # a lane for each worker
        async with asyncio.TaskGroup() as group:
            for _ in range(self._lanes):
                group.create_task(self._lane())
        if self._ended_by is not None:
            raise self._ended_by

    def hear(self, told: Progress) -> None:
        """A worker tells how far a shard has come."""
        tally, before = self._tally, self._told[told.position]
        self._told[told.position] = _Counts(told.rows, told.done, told.failed, told.reused_calls)
        done, failed = told.done - before.done, told.failed - before.failed
        tally.rows += told.rows - before.rows
        tally.done += done
        tally.failed += failed
        tally.reused_calls += max(0, told.reused_calls - before.reused_calls)
        if not told.is_first:
            tally.ended_here += done + failed
        for status, rows in ((RowStatus.DONE, done), (RowStatus.FAILED, failed)):
            for _ in range(rows):
                self.on_result(status)

    async def _lane(self) -> None:
        for position, shard in self._left:
            if self._draining:
                return
            try:
                await self._bring(position, shard)
            except GptflowError as error:
                if not self._draining:
                    self._ended_by = error
                    self._draining = True
                    self._desk.stop(RunStopped(error.message, hint=error.hint))
                return

    async def _bring(self, position: int, shard: Shard) -> None:
        raw = msgspec.json.encode(shard)
        result = await self.converse(Row(position, position, b"", 0, raw, {}))
        if result is None or result.failure is not None:
            why = result.failure.message if result and result.failure else "nobody had it"
            raise RunStopped(f"shard {shard.name}: {why}")
        marker = msgspec.json.decode(result.fields, type=Marker)
        self._tally.reused_rows += marker.reused_rows
        self.on_marker(shard, marker)


class ShardDrive:
    """Has shards brought to their markers by workers, whose calls pass one engine."""

    def __init__(
        self,
        prepared: Prepared,
        watchers: Watchers,
        purse: Purse | None,
        *,
        fresh_since: float | None,
        retry: Retry | None,
    ) -> None:
        self._prepared = prepared
        self._watchers = watchers
        self._purse = purse
        wanted = prepared.spec.parallelism.concurrency
        lanes = None if wanted == "auto" else wanted
        self._craft = ShardCraft(prepared.spec, prepared.choice, fresh_since, retry, lanes)

    async def bring(
        self, shards: Sequence[Shard], markers: dict[str, Marker], server: Server
    ) -> None:
        """Brings shards to their markers, which are put to the others.

        Raises:
            RunStopped: a limit, or nobody can answer any more.
            GptflowError: the data, a store or the workers fail.
        """
        watchers, purse, hear = self._watchers, self._purse, self._listener()
        async with run_engine(self._prepared.spec, server, hear) as engine:
            watchers.tally.keys = lambda: key_shares(engine)
            asker = asker_of(engine, server)
            till = Till(purse, watchers.budget, asker, engine) if purse else None
            desk = Counter(till or asker, hear)
            workers = most_workers(self._prepared.spec.parallelism)
            lanes = _Lanes(shards, workers, desk, watchers)
            lanes.on_marker = lambda shard, marker: markers.update({shard.name: marker})
            sharding = Sharding(self._craft, lanes.hear)
            say = watchers.display.say
            async with shard_crew(self._prepared, len(shards), server, desk, say, sharding) as crew:
                lanes.converse, lanes.on_drain = crew.converse, crew.drain
                gate = till or engine
                await watchers.see_through(lanes, gate, Width.fixed(1), engine=engine)

    def _listener(self) -> Listener:
        listeners = self._watchers.listeners
        return fan_out(*listeners, self._purse.hear) if self._purse else fan_out(*listeners)
