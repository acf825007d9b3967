"""Batch mode: all rows are driven in rounds, each as far as the replies in the store take it.

A round goes through the pending rows once. What a row asks next is put into an upload, unless it is
on its way already; when all that the rows wait for has come back, the next round begins. Nothing is
held for a row between two rounds, and nothing but the store knows what is on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass

from gptflow.engine.clock import Clock
from gptflow.errors import RunStopped, UsageError
from gptflow.pipeline.plan import Plan
from gptflow.records import Row, RowStatus
from gptflow.runner.archive import RunArchive
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.asker import BatchAsker
from gptflow.runner.batch.courier import Courier
from gptflow.runner.batch.flights import (
    Flight,
    Flights,
    open_records,
    waiting,
    with_provider,
)
from gptflow.runner.batch.harvest import Harvest
from gptflow.runner.batch.landing import Landing
from gptflow.runner.batch.members import Members
from gptflow.runner.batch.provider import Pace, Provider
from gptflow.runner.batch.round_talk import RoundTalk
from gptflow.runner.batch.spool import Spool
from gptflow.runner.budget import Budget
from gptflow.runner.desk import Desk
from gptflow.runner.events import CallAnswered, Listener, RunEvent
from gptflow.runner.lanes import Lanes, first_error
from gptflow.runner.purse import Purse
from gptflow.runner.server import Server, ServerChoice
from gptflow.runner.talk import Talk
from gptflow.runner.width import Width
from gptflow.spec.model import Spec
from gptflow.store.record import RunRecord
from gptflow.store.store import Store

LANES = 32
"""Conversations at a time. They never wait for a model, only for the disk."""


@dataclass(frozen=True, slots=True)
class BatchWork:
    """What a batch run works with."""

    spec: Spec
    plan: Plan
    server: Server
    store: Store
    run: RunRecord
    is_retry: bool
    """Whether rows that had failed are asked again."""
    rows: Callable[[], Iterator[Row]]
    """The rows that are pending at the time."""
    hear: Listener
    purse: Purse | None
    budget: Budget
    say: Callable[[str], None]
    wait: bool = True
    """Whether the provider is waited for; else the command ends when all is submitted."""


def check_server(choice: ServerChoice) -> None:
    """Raises UsageError if who is to answer has no Batch API, as far as that is known before."""
    if choice.local:
        raise UsageError(
            "a model on this machine has no Batch API: --local and mode batch exclude each other",
            hint="leave --local out for the keys of config.json, or choose another --mode",
        )


class BatchRun:
    """Brings the rows of a run to their ends by the Batch API. It is driven as lanes are."""

    def __init__(
        self, work: BatchWork, clock: Clock | None = None, pace: Pace | None = None
    ) -> None:
        clock, limits, run_id = clock or Clock(), work.spec.limits, work.run.run_id
        limits_of_files = work.spec.parallelism.batch
        self._work = work
        self._book = work.store.batches
        self._spool = Spool.beside(work.store.path, limits_of_files)
        self._apis = Apis(clock, timeout_s=limits.timeout_s, outage_s=limits.outage_s)
        keys = work.server.config.keys
        members = Members(keys, limits_of_files.enqueued_tokens, clock.now, work.hear)
        harvest = Harvest(work.store, run_id, limits.attempts, work.purse, self._hear)
        flights = Flights(self._book, members)
        flights.on_landed = self._give_back
        courier = Courier(self._book, self._spool, members, self._apis)
        landing = Landing(flights, self._spool, self._apis, courier, harvest)
        landing.say = courier.say = work.say
        landing.missing_s = limits_of_files.missing_s
        self._provider = Provider(flights, self._spool, self._apis, courier, landing)
        self._provider.pace = pace or Pace()
        self._provider.waits_for_room = work.wait
        self._asker = BatchAsker(self._book, self._spool, self._provider, run_id, limits.attempts)
        self._asker.till = (work.purse, work.budget) if work.purse else None
        self._asker.rehearsal = work.server.rehearsal
        self._archive = RunArchive(work.store, work.run)
        self._asker.find_reply = self._archive.find_reply
        self._lanes: Lanes | None = None
        self._first: asyncio.Task[None] | None = None
        """What is asked of the provider while no row is."""
        self._is_leaving = False
        self._is_forgiven = False
        self._rounds_done = 0
        self.on_result: Callable[[RowStatus], object] = lambda _: None
        """As that of Lanes."""
        self.in_flight = 0
        """Calls that are waited for at the end: none, the provider keeps them."""

    def words(self) -> str:
        """How far the batches are, for a progress line."""
        return self._provider.flights.words()

    def drain(self, reason: RunStopped | None = None) -> None:
        """Takes no further row, and waits for no batch: they stay with the provider."""
        del reason
        self._is_leaving = True
        if self._lanes is not None:
            self._lanes.drain()
        self._provider.leave()
        if self._first is not None:
            self._first.cancel()

    def stop(self, reason: RunStopped) -> None:
        """The same, and what calls have failed with is no verdict on them."""
        self._is_forgiven = True
        self.drain(reason)

    async def run(self, width: Width) -> None:
        """Works until all rows have ended, or `drain` was called.

        Raises:
            RunStopped: nothing can be submitted any more, or `wait` is off and all is submitted.
            UsageError: a key's host has no Batch API.
            DataError: the source changed.
            StoreError: nothing can be written any more.
        """
        del width  # a round is as wide as its files
        try:
            await self._heeding(self._begin())
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._provider.send())]
                if self._work.wait:
                    tasks.append(group.create_task(self._provider.watch()))
                try:
                    await self._rounds()
                finally:
                    for task in tasks:
                        task.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            self._spool.close()
            await self._apis.aclose()
        if self._is_forgiven:
            run_id = self._work.run.run_id
            await asyncio.to_thread(self._book.forget_faults, run_id, also_on_the_way=True)
        if self._is_leaving and (left := self._left()):
            self._work.say(f"{left}; the same command fetches them")

    async def _heeding(self, work: Coroutine[None, None, None]) -> None:
        """Does what `drain` may end at any time."""
        self._first = asyncio.create_task(work)
        if self._is_leaving:
            self._first.cancel()
        try:
            await self._first
        except asyncio.CancelledError:
            self._first.cancel()
            if not self._is_leaving:
                raise
        finally:
            self._first = None

    async def _begin(self) -> None:
        """All that is looked at before a row is asked, and what earlier commands have left."""
        work, run_id = self._work, self._work.run.run_id
        await self._provider.probe()
        if work.is_retry:
            await asyncio.to_thread(self._book.forget_faults, run_id, also_on_the_way=True)
        await self._provider.resume(open_records(self._book, work.run))
        for flight in self._provider.flights:
            if work.purse and flight.record.run_id == run_id:
                flight.usd = work.purse.guess_usd(
                    flight.record.model, flight.record.calls, flight.record.tokens
                )
                work.purse.reserve(flight.usd, flight.record.calls)
        others = self._book.open(work.run.server)
        others = [one for one in others if one.run_id < work.run.since_run]
        if left := with_provider(others):
            work.say(f"{left} from before --fresh; they are paid, and nobody fetches them")

    async def _rounds(self) -> None:
        flights = self._provider.flights
        while not self._is_leaving:
            landings = flights.landings
            await self._go_through_rows()
            if self._is_leaving:
                return
            await self._asker.end_round()
            await asyncio.to_thread(self._book.forget_faults, self._work.run.run_id)
            if not self._asker.deferred:
                return
            is_stuck = not (self._asker.added or self._asker.come) and self._provider.is_idle
            if is_stuck and flights.landings == landings:
                raise self._asker.why_stuck()
            if not self._work.wait:
                await self._submit_and_look()
            await flights.until(lambda: self._provider.is_idle)

    async def _submit_and_look(self) -> None:
        """Leaves, unless all that the rows wait for has come by now.

        Raises:
            RunStopped: it is with the provider.
        """
        provider = self._provider
        await provider.flights.until(lambda: provider.is_sent)
        await self._heeding(provider.look())
        if not provider.is_idle and not self._is_leaving:
            wanted = [flight.record for flight in provider.flights if flight.is_wanted]
            left = "; ".join(filter(None, (self._left(), waiting(wanted))))
            raise RunStopped(left, hint="the same command goes on with them")

    async def _go_through_rows(self) -> None:
        work = self._work
        self._asker.begin_round()
        hear = work.hear if not self._rounds_done else _without_reuse(work.hear)
        desk = Desk(self._asker, self._archive, hear)
        talker = RoundTalk(Talk(work.plan, desk.reply), self._book, work.run.run_id)
        self._lanes = Lanes(talker.converse, desk, self._archive, work.rows(), hear)
        self._lanes.on_result = self.on_result
        await self._lanes.run(Width.fixed(LANES))
        self._rounds_done += 1

    def _hear(self, event: RunEvent) -> None:
        """Of replies as they come in."""
        if isinstance(event, CallAnswered):
            self._asker.seen.add(event.step)
        self._work.hear(event)

    def _give_back(self, flight: Flight) -> None:
        purse, record = self._work.purse, flight.record
        if purse and record.run_id == self._work.run.run_id:
            purse.give_back(flight.usd, record.calls)

    def _left(self) -> str:
        """What is with the provider; empty for nothing."""
        wanted = [flight.record for flight in self._provider.flights if flight.is_wanted]
        return with_provider(wanted)


def _without_reuse(hear: Listener) -> Listener:
    """A listener for later rounds: what an earlier one has counted is not counted again."""

    def tell(event: RunEvent) -> None:
        if not (isinstance(event, CallAnswered) and event.reused):
            hear(event)

    return tell
