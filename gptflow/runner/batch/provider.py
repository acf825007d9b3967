"""The provider's side of a batch run: batches are brought there, watched, and fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from gptflow.engine.batch_line import unanswered
from gptflow.engine.batch_state import NO_ROOM, ApiRefused, BatchState, refusal, rejected
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped, UsageError
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.courier import Courier
from gptflow.runner.batch.faults import packed
from gptflow.runner.batch.flights import Flight, Flights
from gptflow.runner.batch.harvest import Harvest
from gptflow.runner.batch.members import Member, Members
from gptflow.runner.batch.spool import Sealed, Spool
from gptflow.runner.words import counted
from gptflow.store.batches import BatchDraft, Batches, BatchRecord, BatchStatus

AT_A_TIME = 8
"""Batches that are looked at together."""
MOST_WAITING = 4
"""Sealed files that wait for their upload before rows are held back."""
PROBE_TRIES = 4

_NOT_FOUND = 404
_LOSSES = frozenset({VerdictKind.EXHAUSTED, VerdictKind.RETIRED, VerdictKind.NO_MODEL})


@dataclass(frozen=True, slots=True)
class Pace:
    """How often batches are looked at: ever less often, as long as nothing moves."""

    first_s: float = 0.2
    longest_s: float = 60.0
    growth: float = 1.5


class Provider:
    """Brings batches to the provider and their answers back. Works while its tasks run."""

    def __init__(
        self,
        book: Batches,
        spool: Spool,
        members: Members,
        apis: Apis,
        harvest: Harvest,
    ) -> None:
        self._book = book
        self._spool = spool
        self._members = members
        self._apis = apis
        self._harvest = harvest
        harvest.on_key_verdict = self._lose_key
        self._courier = Courier(book, spool, members, apis)
        self.flights = Flights(book)
        self._waiting: asyncio.Queue[Flight] = asyncio.Queue()
        self._woken = asyncio.Event()
        self.pace = Pace()
        self._leaves = False
        self.waits_for_room = True
        """Whether a full queue is waited for; else no further batch is submitted then."""
        self.say: Callable[[str], None] = lambda _: None
        self.on_landed: Callable[[Flight], None] = lambda _: None
        """Called when a batch is not on its way any more."""
        self.stopped: RunStopped | None = None
        """Why no further batch is submitted. Those that run are fetched all the same."""

    async def probe(self) -> None:
        """Looks whether the keys may use the Batch API. No row has been asked yet.

        Raises:
            UsageError: a host has no Batch API.
            RunStopped: no key may use it, or no server answers.
        """
        for member in self._members:
            asking = self._apis.of(member.key).probe
            try:
                await self._apis.patience.insist(asking, PROBE_TRIES)
            except ApiRefused as refused:
                verdict = refused.verdict
                if verdict.status == _NOT_FOUND:
                    raise UsageError(
                        f"{member.key.host} has no Batch API (key {member.key.name})",
                        hint="run with another --mode, or take the key out of config.json",
                    ) from None
                if verdict.kind not in _LOSSES:
                    raise RunStopped(
                        f"the Batch API does not answer: {verdict.message}",
                        hint=verdict.hint
                        or "check base_url in config.json and that the server runs, then run again",
                    ) from None
                self._members.lose(member, "", verdict)
        if all(member.out is not None for member in self._members):
            raise self._members.none_left()

    async def resume(self, records: list[BatchRecord], run_id: int) -> None:
        """Takes up what earlier processes have left. Foreign files that never left are dropped."""
        self._spool.tidy({record.token for record in records})
        for record in records:
            flight = Flight(record, is_resumed=True)
            sealed = (record.token, record.size_bytes, record.digest)
            unsent = record.status in (BatchStatus.WRITTEN, BatchStatus.UPLOADING)
            written = record.status is BatchStatus.WRITTEN
            is_foreign = record.run_id != run_id and unsent
            if is_foreign or (written and not self._spool.is_whole(*sealed)):
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
            lambda: self._waiting.qsize() < MOST_WAITING or self.stopped is not None or self._leaves
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
        """Brings batches to the provider, one after the other, for as long as it is let."""
        while True:
            flight = await self._waiting.get()
            try:
                while not await self._send(flight):
                    pass
            except RunStopped as stop:
                self.stopped = self.stopped or stop
            self.flights.tell()

    async def _send(self, flight: Flight) -> bool:
        """Whether there is no more to do for a flight: it runs, or it was given up."""
        record = flight.record
        if record.status is BatchStatus.WRITTEN:
            await self._until_room(lambda: self._chosen(flight) is not None)
            member = self._chosen(flight)
            assert member is not None
            await self._courier.assign(flight, member)
        else:
            member = next(self._members.holders(record.account), None)
            if member is None:
                await self._courier.start_over(flight)
                return False
            await self._until_room(
                lambda: self._members.has_room(record.account, record.model, record.tokens)
            )
        if await self._courier.bring(flight, member):
            record = flight.record
            self._members.enqueue(record.account, record.model, record.tokens)
            self._woken.set()
            return True
        if flight.record.status is BatchStatus.LOST:
            self._land(flight, has_landed=False)
            return True
        return False

    def _chosen(self, flight: Flight) -> Member | None:
        return self._members.choose(flight.record.model, flight.record.tokens)

    async def _until_room(self, is_there: Callable[[], bool]) -> None:
        """Waits until a queue has room: when a batch ends, or when it is worth another try."""
        while not is_there():
            if not self.waits_for_room:
                raise RunStopped("the provider's queue has no room for a further batch now")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._members.next_room_s()):
                    await self.flights.until(is_there)

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
            has_moved = await self.look()
            wait_s = self.pace.first_s if has_moved else wait_s * self.pace.growth
            wait_s = min(wait_s, self.pace.longest_s)

    async def look(self) -> bool:
        """Looks at all batches that run, once; whether any has moved."""
        turn = asyncio.Semaphore(AT_A_TIME)
        running = [flight for flight in self.flights if flight.is_running]

        async def look_at(flight: Flight) -> BatchState | None:
            async with turn:
                return await self._state(flight)

        states = await asyncio.gather(*map(look_at, running))
        has_moved = False
        for flight, state in zip(running, states, strict=True):
            if state is None:
                self.say(
                    f"{self._named(flight)} is lost: no key finds it; its calls are asked anew"
                )
                await self._courier.give_up(flight)
                self._land(flight, has_landed=False)
                has_moved = True
                continue
            has_moved |= (state.status, state.answered) != (flight.status, flight.answered)
            flight.status, flight.answered = state.status, state.answered
            if state.has_ended:
                await self._close(flight, state)
        if has_moved:
            self.flights.tell()
        return has_moved

    async def _state(self, flight: Flight) -> BatchState | None:
        """How a batch is, by the first key that finds it; None if none does."""
        record = flight.record
        for member in self._members.fetchers(record.key_name, record.account):
            looking = partial(self._apis.of(member.key).look, record.remote_id)
            try:
                return await self._apis.patience.insist(looking)
            except ApiRefused as refused:
                verdict = refused.verdict
                if verdict.kind in _LOSSES and verdict.status != _NOT_FOUND:
                    self._members.lose(member, record.model, verdict)
                elif verdict.status != _NOT_FOUND:
                    raise RunStopped(
                        f"{self._named(flight)} cannot be looked at: {verdict.message}",
                        hint=verdict.hint or "the same command goes on with it",
                    ) from None
        return None

    async def _close(self, flight: Flight, state: BatchState) -> None:
        """Fetches all that came of a batch that has ended."""
        if state.status == "failed":
            await self._close_failed(flight, state)
            return
        for file_id in filter(None, (state.output_file_id, state.error_file_id)):
            await self._fetch(flight, file_id)
        left = self._book.left(flight.record.batch_id)
        verdict = _of_the_rest(state) if left else None
        rest = None if verdict is None else packed(verdict)
        if left and state.status == "cancelled":
            self.stopped = self.stopped or RunStopped(
                f"{self._named(flight)} was cancelled at the provider: "
                f"{counted(left, 'call')} of {flight.record.calls:,} without an answer",
                hint="the same command asks them again",
            )
        await asyncio.to_thread(self._book.end, flight.record, rest)
        self._land(flight, has_landed=True)

    async def _close_failed(self, flight: Flight, state: BatchState) -> None:
        """The provider has not begun it: for want of room, for its lines, or for all of it."""
        record = flight.record
        verdict = refusal(state)
        if verdict is None:
            await self._reject_lines(record, state)
            self._land(flight, has_landed=True)
        elif verdict.code == NO_ROOM:
            self._members.release(record.account, record.model, record.tokens)
            await self._courier.wait_for_room(flight)
            self._waiting.put_nowait(flight)
        elif verdict.kind is VerdictKind.RETRY:
            await asyncio.to_thread(self._book.end, record, packed(verdict))
            self._land(flight, has_landed=True)
        else:
            await self._courier.give_up(flight)
            self._land(flight, has_landed=False)
            if verdict.kind in _LOSSES:
                self._lose_key(record, verdict)
            else:
                message = f"{self._named(flight)} was not begun: {verdict.message}"
                self.stopped = self.stopped or RunStopped(message, hint=verdict.hint)

    async def _reject_lines(self, record: BatchRecord, state: BatchState) -> None:
        """The calls of bad lines have failed; the others were not asked."""
        errors = {error.line: error for error in state.errors if error.line is not None}
        keys = self._book.line_keys(record.batch_id)
        faults = [
            (key, packed(rejected(errors[number])))
            for number, key in enumerate(keys, start=1)
            if number in errors
        ]
        await asyncio.to_thread(self._book.add_faults, record, faults)
        await asyncio.to_thread(self._book.end, record, None)

    async def _fetch(self, flight: Flight, file_id: str) -> None:
        record = flight.record
        path = self._spool.path(f"{record.token}.{file_id}")
        for member in self._members.fetchers(record.key_name, record.account):
            api = self._apis.of(member.key)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                await self._apis.patience.insist(partial(api.download, file_id, path))
            except ApiRefused as refused:
                reason = refused.verdict
                continue
            await self._harvest.bring_in(flight, path)
            self._spool.remove(f"{record.token}.{file_id}")
            return
        raise RunStopped(
            f"what came of {self._named(flight)} cannot be fetched: {reason.message}",
            hint=reason.hint or "the same command tries again",
        )

    def _take_off(self, flight: Flight) -> None:
        record = flight.record
        self.flights.add(flight)
        if flight.is_running:
            self._members.enqueue(record.account, record.model, record.tokens)
        else:
            self._waiting.put_nowait(flight)

    def _land(self, flight: Flight, *, has_landed: bool) -> None:
        record = flight.record
        self.flights.remove(flight, has_landed=has_landed)
        if record.account:
            self._members.release(record.account, record.model, record.tokens)
        self.on_landed(flight)

    def _lose_key(self, record: BatchRecord, verdict: Verdict) -> None:
        member = self._members.named(record.key_name)
        if verdict.kind is VerdictKind.STOP:
            self.stopped = self.stopped or RunStopped(verdict.message, hint=verdict.hint)
        elif member is not None:
            self._members.lose(member, record.model, verdict)

    def _named(self, flight: Flight) -> str:
        record = flight.record
        return f"batch {record.remote_id or record.token} of key {record.key_name}"


def _of_the_rest(state: BatchState) -> Verdict | None:
    """The verdict on calls that a batch has left without an answer; None: they are not charged."""
    if state.status == "cancelled":
        return None
    if state.status == "expired":
        return unanswered("the batch expired before this call was answered", "batch_expired")
    return unanswered("the batch was completed without an answer to this call", "batch_unanswered")
