"""The batches that are on their way, as this process knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gptflow.errors import RunStopped
from gptflow.runner.batch.members import Members
from gptflow.runner.words import counted
from gptflow.store.batches import Batches, BatchRecord, BatchStatus
from gptflow.store.record import RunRecord


@dataclass(slots=True)
class Flight:
    """One batch on its way."""

    record: BatchRecord
    usd: float = 0.0
    """What its calls may cost, where somebody counts."""
    is_resumed: bool = False
    """Whether a process before this one may have gone further with it than the store says."""
    is_wanted: bool = False
    """Whether a row of this run waits for it."""
    answered: int = 0
    """How many calls have come to an end, as the provider says."""
    status: str = ""
    """As the provider says."""

    unreadable: int = 0
    """Lines of what came of it that say nothing."""
    misses: int = 0
    """How often in a row it, or what came of it, was not found."""
    missing_since: float = 0.0
    """By the clock."""

    is_enqueued: bool = False
    """Whether its tokens count for what may be enqueued."""

    def has_moved(self, status: str, answered: int) -> bool:
        """Takes what the provider says of it; whether it is on another leg of its way.

        Counts alone are no such news: they change with each look, for hours.
        """
        before, self.status, self.answered = self.status, status, answered
        return before != status

    @property
    def is_running(self) -> bool:
        """Whether it is at the provider."""
        return self.record.status is BatchStatus.RUNNING


def named(flight: Flight) -> str:
    """A batch, as a person may look for it at the provider."""
    record = flight.record
    return f"batch {record.remote_id or record.token} of key {record.key_name}"


def open_records(book: Batches, run: RunRecord) -> list[BatchRecord]:
    """The batches that may have calls of a run on their way; of no run before `since_run`."""
    return [record for record in book.open(run.server) if record.run_id >= run.since_run]


def batches_and_calls(records: Sequence[BatchRecord]) -> str:
    """How many batches there are, and how many calls they have."""
    batches = "1 batch" if len(records) == 1 else f"{len(records):,} batches"
    return f"{batches} with {counted(sum(record.calls for record in records), 'call')}"


def with_provider(records: Iterable[BatchRecord]) -> str:
    """What of these batches is with the provider, in words; empty for nothing."""
    running = [record for record in records if record.status is BatchStatus.RUNNING]
    verb = "is" if len(running) == 1 else "are"
    return f"{batches_and_calls(running)} {verb} with the provider" if running else ""


def waiting(records: Iterable[BatchRecord]) -> str:
    """What of these batches is not with the provider for want of room; empty for nothing."""
    calls = sum(record.calls for record in records if record.status is not BatchStatus.RUNNING)
    verb = "waits" if calls == 1 else "wait"
    return f"{counted(calls, 'call')} {verb} for room in the provider's queue" if calls else ""


class Flights:
    """All batches on their way. Whoever waits for something of them is woken by `tell`."""

    def __init__(self, book: Batches, members: Members) -> None:
        self.book = book
        self.members = members
        self._by_id: dict[int, Flight] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self.landed = 0
        """Batches that have ended in this process."""
        self.landed_calls = 0
        self.landings = 0
        """Batches that are not on their way any more, the lost ones counted too."""
        self.on_landed: Callable[[Flight], None] = lambda _: None
        """Called when a batch is not on its way any more."""
        self.stopped: RunStopped | None = None
        """Why no further batch is submitted."""

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, flight: Flight) -> None:
        """One more is on its way."""
        self._by_id[flight.record.batch_id] = flight

    def land(self, flight: Flight, *, is_lost: bool = False) -> None:
        """It is not on its way any more."""
        self._by_id.pop(flight.record.batch_id, None)
        self.release(flight)
        self.landings += 1
        if not is_lost:
            self.landed += 1
            self.landed_calls += flight.record.calls
        self.on_landed(flight)

    def enqueue(self, flight: Flight) -> None:
        """It is in its provider's queue."""
        record, flight.is_enqueued = flight.record, True
        self.members.enqueue(record.account, record.model, record.tokens)

    def release(self, flight: Flight) -> None:
        """It is out of that queue, if it was in there."""
        record, was_enqueued = flight.record, flight.is_enqueued
        flight.is_enqueued = False
        if was_enqueued:
            self.members.release(record.account, record.model, record.tokens)

    def stop(self, reason: RunStopped) -> None:
        """No further batch is submitted; the first reason counts."""
        self.stopped = self.stopped or reason
        self.tell()

    def with_call(self, call_key: bytes) -> Flight | None:
        """The batch that a call is on its way in."""
        if not self._by_id:
            return None
        ways = (self._by_id.get(batch_id) for batch_id in self.book.way_of(call_key))
        return next((flight for flight in ways if flight is not None), None)

    @property
    def wanted(self) -> list[Flight]:
        """Those that a row waits for."""
        return [flight for flight in self if flight.is_wanted]

    def tell(self) -> None:
        """Wakes all who wait: something has changed."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Waits until something is so; it is looked at whenever `tell` is called."""
        while not is_so():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def words(self) -> str:
        """How far it is, for a progress line; empty where nothing is on its way."""
        if not self._by_id:
            return ""
        batches = self.landed + len(self._by_id)
        answered = self.landed_calls + sum(flight.answered for flight in self)
        calls = self.landed_calls + sum(flight.record.calls for flight in self)
        return f"batches {self.landed} of {batches} done, {answered:,}/{calls:,} calls"
