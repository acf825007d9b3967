"""Batches of an earlier command are called back, before a run in another mode asks its first call.

What has ended is fetched. What runs is cancelled at the provider, and what it has answered by then
is fetched too. So only what nobody has answered is asked, and paid, once more. Nothing is written
of it but what batch mode writes: a command that is killed meanwhile is followed by one that looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gptflow.engine.batch_state import ApiRefused, is_passing
from gptflow.engine.clock import Clock
from gptflow.engine.config import Config
from gptflow.errors import RunStopped
from gptflow.records import RowStatus
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.courier import Courier
from gptflow.runner.batch.flights import (
    Flight,
    Flights,
    batches_and_calls,
    named,
    open_records,
    with_provider,
)
from gptflow.runner.batch.harvest import Harvest
from gptflow.runner.batch.landing import Landing
from gptflow.runner.batch.members import Members
from gptflow.runner.batch.provider import Pace
from gptflow.runner.batch.spool import Spool
from gptflow.runner.events import CallAnswered, Listener, RunEvent
from gptflow.runner.width import Width
from gptflow.spec.model import Spec
from gptflow.store.batches import BatchStatus
from gptflow.store.record import RunRecord
from gptflow.store.store import Store

if TYPE_CHECKING:
    from gptflow.engine.batch_api import BatchApi

PACE = Pace(longest_s=10.0)
"""A provider takes up to ten minutes to cancel a batch."""
_ENDING = frozenset({"cancelling", "finalizing"})
"""States of a batch that comes to its end of itself."""


@dataclass(frozen=True, slots=True)
class RecallWork:
    """What batches are called back with."""

    spec: Spec
    config: Config
    store: Store
    run: RunRecord
    hear: Listener
    say: Callable[[str], None]


class Recall:
    """Has the provider end the batches of a run, and keeps what they have answered.

    It is driven as lanes are.
    """

    def __init__(self, work: RecallWork, clock: Clock | None = None, pace: Pace = PACE) -> None:
        clock, limits = clock or Clock(), work.spec.limits
        self._book = work.store.batches
        self._records = open_records(self._book, work.run)
        self._say = work.say
        self._hear = work.hear
        self._pace = pace
        self._members = Members(work.config.keys, None, clock.now, lambda _: None)
        self._flights = Flights(self._book, self._members)
        self._apis = Apis(clock, timeout_s=limits.timeout_s, outage_s=limits.outage_s)
        spool = Spool.beside(work.store.path, work.spec.parallelism.batch)
        harvest = Harvest(work.store, work.run.run_id, limits.attempts, None, self._count)
        self._courier = Courier(self._book, spool, self._members, self._apis)
        self._landing = Landing(self._flights, spool, self._apis, self._courier, harvest)
        self._landing.say = self._courier.say = work.say
        self._landing.missing_s = work.spec.parallelism.batch.missing_s
        harvest.on_key_verdict = lambda _record, _verdict: None  # the key may fetch all the same
        self._calls: asyncio.Task[None] | None = None
        self._is_leaving = False
        self.answers = 0
        """That have come back so far."""
        self.on_result: Callable[[RowStatus], object] = lambda _: None
        """As that of Lanes; no row ends here."""
        self.in_flight = 0
        """Calls that are waited for at the end: none, the provider keeps them."""

    @property
    def has_work(self) -> bool:
        """Whether there is any batch to be called back."""
        return bool(self._records)

    def words(self) -> str:
        """How far the batches are, for a progress line."""
        return self._flights.words()

    def drain(self, reason: RunStopped | None = None) -> None:
        """Waits for no batch any more: they stay as they are, and the next command looks."""
        del reason
        self._is_leaving = True
        if self._calls is not None:
            self._calls.cancel()

    async def run(self, width: Width) -> None:
        """Works until no batch is on its way, or `drain` was called.

        Raises:
            RunStopped: a batch cannot be looked at, cancelled or fetched now, but may be later.
            StoreError: nothing can be written any more.
        """
        del width
        if self._is_leaving:
            return
        self._calls = asyncio.ensure_future(self._call_back())
        try:
            await self._calls
        except asyncio.CancelledError:
            if not self._is_leaving:
                raise
        except RunStopped:
            if not self._members.are_retired:
                raise
            left = batches_and_calls([flight.record for flight in self._flights])
            self._say(f"no key may look at {left}: the calls are asked anew")
            return
        finally:
            await self._apis.aclose()
        if self._is_leaving and (left := self._left()):
            self._say(f"{left}; the same command goes on with it")

    async def _call_back(self) -> None:
        for record in self._records:
            self._flights.add(Flight(record, is_resumed=True, is_wanted=True))
        for flight in self._flights:
            if flight.record.status is BatchStatus.SUBMITTING:
                await self._courier.find(flight)
        await self._ground()
        calls = sum(flight.record.calls for flight in self._flights)
        if not calls:
            return
        await self._look()
        await self._cancel_all()
        wait_s = self._pace.first_s
        while len(self._flights):
            await self._apis.clock.sleep(wait_s)
            wait_s = self._pace.next_s(wait_s, has_moved=await self._look())
        self._say(f"{self.answers:,} of {calls:,} calls have come back with their answers")

    async def _look(self) -> bool:
        """Looks at all batches once, and fetches what has ended; whether any has moved."""
        has_moved = await self._landing.look()
        await self._ground()  # those that have found no room
        return has_moved

    async def _ground(self) -> None:
        """Gives up what never left: it costs nothing."""
        for flight in self._flights:
            if not flight.is_running:
                await self._courier.give_up(flight)
                self._flights.land(flight, is_lost=True)

    async def _cancel_all(self) -> None:
        running = list(self._flights)
        if not running:
            return
        called = batches_and_calls([flight.record for flight in running])
        is_kept = "is called back: what it has" if len(running) == 1 else _ARE_KEPT
        self._say(f"{called} {is_kept} answered is kept")
        for flight in running:
            if flight.status not in _ENDING and not flight.misses:
                await self._cancel(flight)

    async def _cancel(self, flight: Flight) -> None:
        """Has a batch cancelled by the first key that may."""
        record, reason = flight.record, None
        for member in self._members.fetchers(record.key_name, record.account):
            api: BatchApi = self._apis.of(member.key)
            try:
                await self._apis.patience.insist(partial(api.cancel, record.remote_id))
            except ApiRefused as refused:
                reason = reason or refused.verdict
                if is_passing(reason):
                    break
            else:
                return
        told = f": {reason.message}" if reason else ""
        hint = _AGAIN if reason and is_passing(reason) else _WAIT
        raise RunStopped(f"{named(flight)} cannot be called back{told}", hint=hint)

    def _count(self, event: RunEvent) -> None:
        self.answers += isinstance(event, CallAnswered)
        self._hear(event)

    def _left(self) -> str:
        return with_provider(flight.record for flight in self._flights)


_ARE_KEPT = "are called back: what they have"
_AGAIN = "the same command tries again"
_WAIT = "fetch it by --mode batch, or cancel it at the provider; then the same command goes on"


def counted_once(hear: Listener, answers: int) -> Listener:
    """A listener for what follows: so many replies were counted as they came, and are read now."""
    left = answers

    def tell(event: RunEvent) -> None:
        nonlocal left
        if left and isinstance(event, CallAnswered) and event.reused:
            left -= 1
        else:
            hear(event)

    return tell if answers else hear
