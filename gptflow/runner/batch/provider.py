"""The provider's side of a batch run: batches are brought there, watched, and fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gptflow.engine.batch_state import ApiRefused
from gptflow.errors import GptflowError, RunStopped, UsageError
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.courier import LOSSES, NOT_FOUND, Courier
from gptflow.runner.batch.flights import Flight, Flights, waiting
from gptflow.runner.batch.landing import Landing
from gptflow.runner.batch.members import Member
from gptflow.runner.batch.spool import Sealed, Spool
from gptflow.store.batches import BatchDraft, BatchRecord, BatchStatus

AT_A_TIME = 8
"""Keys that are looked at together."""
MOST_WAITING = 4
"""Sealed files that wait for their upload before rows are held back."""
PROBE_TRIES = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """How often batches are looked at: ever less often, as long as nothing moves."""

    first_s: float = 0.2
    longest_s: float = 60.0
    growth: float = 1.5

    def next_s(self, wait_s: float, *, has_moved: bool) -> float:
        """How long to wait after a look that followed a wait of `wait_s`."""
        return self.first_s if has_moved else min(wait_s * self.growth, self.longest_s)


class Provider:
    """Brings batches to the provider and their answers back. Works while its tasks run."""

    def __init__(
        self,
        flights: Flights,
        spool: Spool,
        apis: Apis,
        courier: Courier,
        landing: Landing,
    ) -> None:
        self.flights = flights
        self._book = flights.book
        self._members = flights.members
        self._spool = spool
        self._apis = apis
        self._courier = courier
        self._landing = landing
        landing.send_again = self._queue
        self._lines: dict[str, asyncio.Queue[Flight]] = {}
        """Those that wait to be sent, by model."""
        self._new_lines: asyncio.Queue[asyncio.Queue[Flight]] = asyncio.Queue()
        self._woken = asyncio.Event()
        self.pace = Pace()
        self._leaves = False
        self.waits_for_room = True
        """Whether a full queue is waited for; else no further batch is submitted then."""

    @property
    def _is_over(self) -> bool:
        """Whether no further batch is sent."""
        return self.stopped is not None or self._leaves

    @property
    def stopped(self) -> RunStopped | None:
        """Why no further batch is submitted. Those that run are fetched all the same."""
        return self.flights.stopped

    async def probe(self) -> None:
        """Looks whether the keys may use the Batch API. No row has been asked yet.

        Raises:
            UsageError: a host has no Batch API.
            RunStopped: no key may use it, or no server answers.
        """
        turn = asyncio.Semaphore(AT_A_TIME)

        async def probe(member: Member) -> GptflowError | None:
            async with turn:
                return await self._probe(member)

        errors = await asyncio.gather(*map(probe, self._members))
        if all(member.out is not None for member in self._members):
            raise next(filter(None, errors), self._members.none_left())

    async def _probe(self, member: Member) -> GptflowError | None:
        """What is wrong with a key's server; the key is set aside then."""
        asking = self._apis.of(member.key).probe
        try:
            await self._apis.patience.insist(asking, PROBE_TRIES)
        except ApiRefused as refused:
            verdict = refused.verdict
            self._members.lose(member, "", verdict, has_looked=True)
            if verdict.status == NOT_FOUND:
                return UsageError(
                    f"{member.key.host} has no Batch API (key {member.key.name})",
                    hint="run with another --mode, or take the key out of config.json",
                )
            if verdict.kind not in LOSSES:
                return RunStopped(
                    f"the Batch API does not answer: {verdict.message}",
                    hint=verdict.hint
                    or "check base_url in config.json and that the server runs, then run again",
                )
        return None

    async def resume(self, records: list[BatchRecord]) -> None:
        """Takes up what earlier processes have left with the provider.

        Calls that never became a batch are asked anew, each if its row still wants it.
        """
        self._spool.tidy(())
        for record in records:
            flight = Flight(record, is_resumed=record.status is BatchStatus.SUBMITTING)
            if record.status in (BatchStatus.WRITTEN, BatchStatus.UPLOADING):
                await self._courier.give_up(flight)
            else:
                self._take_off(flight)

    async def submit(self, sealed: Sealed, run_id: int) -> None:
        """Writes a file's batch down, and has it brought to the provider.

        Waits while too many others wait for that.
        """
        draft = BatchDraft(
            run_id=run_id,
            token=sealed.token,
            model=sealed.model,
            endpoint=sealed.endpoint,
            calls=len(sealed.calls),
            tokens=sealed.tokens,
            size_bytes=sealed.size_bytes,
            digest=sealed.digest,
        )
        record = await asyncio.to_thread(self._book.begin, draft, sealed.calls)
        self._take_off(Flight(record, usd=sealed.usd, is_wanted=True))
        self._spool.is_known(sealed.token)
        await self.flights.until(
            lambda: self._lines[sealed.model].qsize() < MOST_WAITING or self._is_over
        )

    def leave(self) -> None:
        """Nobody waits for anything any more."""
        self._leaves = True
        self.flights.tell()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to wait for: what is on its way stays there, or has come."""
        if self._leaves:
            return True
        waits = [flight for flight in self.flights if flight.is_wanted]
        return all(not flight.is_running for flight in waits) and self.is_sent

    @property
    def is_sent(self) -> bool:
        """Whether all has been submitted that will be."""
        unsent = any(not flight.is_running for flight in self.flights)
        return self._leaves or self.stopped is not None or not unsent

    async def send(self) -> None:
        """Brings batches to the provider, those of a model one after the other, while it is let."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._send_all(await self._new_lines.get()))

    async def _send_all(self, line: asyncio.Queue[Flight]) -> None:
        """The batches of one model: those of another one have a queue of their own."""
        while True:
            flight = await line.get()
            try:
                while not self._is_over and not await self._send(flight):
                    pass
            except RunStopped as stop:
                self.flights.stop(stop)
            if flight.record.status is BatchStatus.LOST:
                self.flights.land(flight, is_lost=True)
            self.flights.tell()

    async def _send(self, flight: Flight) -> bool:
        """Whether there is no more to do for a flight: it runs, or it was given up."""
        record = flight.record
        if flight.is_resumed:
            if await self._courier.find(flight):
                self._has_left(flight)
            else:
                await self._courier.give_up(flight)
            return True
        if record.status is BatchStatus.WRITTEN:
            if record.calls > 1 and self._spool.is_too_large(record.model, record.tokens):
                await self._courier.give_up(flight)  # written before its queue was known
                return True
            await self._until_room(lambda: self._chosen(flight) is not None)
            member = self._chosen(flight)
            assert member is not None
            await self._courier.assign(flight, member)
        else:
            member = next(self._members.holders(record.account, record.key_name), None)
            if member is None:
                await self._courier.start_over(flight)
                return False
            await self._until_room(
                lambda: self._members.has_room(record.account, record.model, record.tokens)
            )
        if await self._courier.bring(flight, member):
            self._has_left(flight)
            return True
        return flight.record.status is BatchStatus.LOST

    def _has_left(self, flight: Flight) -> None:
        self.flights.enqueue(flight)
        self._woken.set()

    def _chosen(self, flight: Flight) -> Member | None:
        return self._members.choose(flight.record.model, flight.record.tokens)

    async def _until_room(self, is_there: Callable[[], bool]) -> None:
        """Waits until a queue has room: when a batch ends, or when it is worth another try."""
        while not is_there():
            if self.stopped is not None:
                raise self.stopped
            if not self.waits_for_room or self._leaves:
                raise RunStopped(
                    waiting(flight.record for flight in self.flights),
                    hint="the same command submits them later",
                )
            with suppress(TimeoutError):
                async with asyncio.timeout(self._members.next_room_s()):
                    await self.flights.until(lambda: is_there() or self._is_over)

    async def watch(self) -> None:
        """Looks at the batches that run, ever less often, and fetches those that have ended."""
        wait_s = self.pace.first_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
                    wait_s = self.pace.first_s
                    self._woken.clear()
                    await asyncio.sleep(wait_s)
            wait_s = self.pace.next_s(wait_s, has_moved=await self._landing.look())

    async def look(self) -> None:
        """Looks at the batches that run once, and fetches those that have ended."""
        await self._landing.look()

    def _take_off(self, flight: Flight) -> None:
        self.flights.add(flight)
        if flight.is_running:
            self.flights.enqueue(flight)
        else:
            self._queue(flight)

    def _queue(self, flight: Flight) -> None:
        model = flight.record.model
        if model not in self._lines:
            self._lines[model] = asyncio.Queue()
            self._new_lines.put_nowait(self._lines[model])
        self._lines[model].put_nowait(flight)
