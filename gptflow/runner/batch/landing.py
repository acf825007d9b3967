"""Batches at the provider are looked at, and what came of those that have ended is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from gptflow.engine.batch_line import unanswered
from gptflow.engine.batch_state import (
    NO_ROOM,
    ApiRefused,
    BatchState,
    is_missing,
    refusal,
    rejected,
)
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.courier import LOSSES, Courier
from gptflow.runner.batch.faults import packed
from gptflow.runner.batch.flights import Flight, Flights, batches_and_calls, named
from gptflow.runner.batch.harvest import Harvest
from gptflow.runner.batch.spool import Spool
from gptflow.runner.words import counted
from gptflow.store.batches import BatchRecord, BatchStatus

AT_A_TIME = 8
"""Batches that are looked at together."""
LEAST_MISSES = 4
"""A provider may not find for a moment what it has just made: so often it has to say so."""

_NOT_BEGUN = frozenset({"validating", "failed"})


class Landing:
    """Brings in what batches have come to."""

    def __init__(
        self, flights: Flights, spool: Spool, apis: Apis, courier: Courier, harvest: Harvest
    ) -> None:
        self._flights = flights
        self._book = flights.book
        self._members = flights.members
        self._spool = spool
        self._apis = apis
        self._courier = courier
        self._harvest = harvest
        harvest.on_key_verdict = self._lose_key
        self.send_again: Callable[[Flight], None] = lambda _: None
        """Has a batch made anew of its uploaded file."""
        self.say: Callable[[str], None] = lambda _: None
        self.missing_s = 300.0
        """For so long what is not found is looked for."""

    async def look(self) -> bool:
        """Looks at all batches that run, once; whether any has moved."""
        turn = asyncio.Semaphore(AT_A_TIME)
        running = [flight for flight in self._flights if flight.is_running]

        async def look_at(flight: Flight) -> BatchState | RunStopped | None:
            async with turn:
                try:
                    return await self._state(flight)
                except RunStopped as stop:
                    return stop  # after what the others have come to

        states = await asyncio.gather(*map(look_at, running))
        has_moved, stops = False, []
        for flight, state in zip(running, states, strict=True):
            if state is None:
                await self._miss(flight, self._courier.is_listed)
            elif isinstance(state, RunStopped):
                stops += [state] if flight.is_wanted else []
            else:
                has_moved |= flight.has_moved(state.status, state.answered)
                if state.status not in _NOT_BEGUN:
                    self._members.forget_refusals(flight.record.account, flight.record.model)
                if not state.has_ended:
                    flight.misses = 0
                    continue
                try:
                    await self._close(flight, state)
                except RunStopped as stop:
                    stops.append(stop)
        self._flights.tell()
        if stops:
            raise stops[0]
        return has_moved

    async def _state(self, flight: Flight) -> BatchState | None:
        """How a batch is, by the first key that finds it; None if it is not there.

        Raises:
            RunStopped: no key that should find it can be asked.
        """
        record, is_gone = flight.record, False
        for member in self._members.fetchers(record.key_name, record.account):
            looking = partial(self._apis.of(member.key).look, record.remote_id)
            try:
                return await self._apis.patience.insist(looking)
            except ApiRefused as refused:
                verdict = refused.verdict
                if is_missing(verdict):
                    is_gone |= self._members.decides(member, record.key_name, record.account)
                elif verdict.kind is VerdictKind.RETIRED:
                    self._members.lose(member, record.model, verdict, has_looked=True)
                elif member.account == record.account or verdict.kind not in LOSSES:
                    raise RunStopped(
                        f"{named(flight)} cannot be looked at: {verdict.message}",
                        hint=verdict.hint or "the same command goes on with it",
                    ) from None
        if is_gone:
            return None
        raise self._needed(record)  # with a key that works it may be found again

    def _needed(self, record: BatchRecord) -> RunStopped:
        """No key can look at a batch that may be there."""
        flights = [one.record for one in self._flights if one.record.key_name == record.key_name]
        return self._members.needed(record.key_name, f"fetch {batches_and_calls(flights)}")

    async def _miss(
        self, flight: Flight, is_there: Callable[[Flight], Awaitable[bool]] | None = None
    ) -> None:
        """It, or what came of it, was not found: it is lost once that has lasted.

        `is_there`: looks for it in another way before.
        """
        if not self._has_missed(flight):
            return
        if is_there is None or not await is_there(flight):
            await self.lose(flight)

    async def lose(self, flight: Flight) -> None:
        """Says that a batch is lost, and takes its calls off the way."""
        self.say(f"{named(flight)} is lost: no key finds it; its calls are asked anew")
        await self._courier.give_up(flight)
        self._flights.land(flight, is_lost=True)

    async def _close(self, flight: Flight, state: BatchState) -> None:
        """Fetches all that came of a batch that has ended."""
        if state.status == "failed":
            await self._close_failed(flight, state)
            return
        flight.unreadable = 0
        files = {"output": state.output_file_id, "errors": state.error_file_id}
        for name, file_id in files.items():
            if file_id and not await self._fetch(flight, file_id, name):
                await self._miss(flight)
                return
        left = self._book.left(flight.record.batch_id)
        if state.status == "completed" and await self._lacks_lines(flight, state, left):
            return
        verdict = _of_the_rest(state) if left else None
        rest = None if verdict is None else packed(verdict)
        if left and state.status == "cancelled":
            message = (
                f"{named(flight)} was cancelled at the provider: "
                f"{counted(left, 'call')} of {flight.record.calls:,} without an answer"
            )
            self._flights.stop(RunStopped(message, hint="the same command asks them again"))
        await asyncio.to_thread(self._book.end, flight.record, rest)
        self._flights.land(flight)

    async def _lacks_lines(self, flight: Flight, state: BatchState, left: int) -> bool:
        """Whether the files of a batch have not all that it counts: they are fetched once more.

        Raises:
            RunStopped: they stay so. What was paid for is not asked again unasked.
        """
        calls = flight.record.calls
        lacking = (state.answered or calls) - (calls - left) if left else 0
        if flight.unreadable:
            self.say(f"{counted(flight.unreadable, 'line')} of {named(flight)} cannot be read")
        if lacking <= flight.unreadable:
            return False
        if not self._has_missed(flight):
            return True
        raise RunStopped(
            f"{named(flight)} is completed, and its files lack {counted(lacking, 'answer')}",
            hint="the same command looks again; --fresh asks everything anew",
        )

    def _has_missed(self, flight: Flight) -> bool:
        """Notes that something was not found; whether that has lasted."""
        now = self._apis.clock.now()
        if not flight.misses:
            flight.missing_since = now
            self.say(f"{named(flight)} is not found, or not all of it; it is looked for again")
        flight.misses += 1
        return flight.misses >= LEAST_MISSES and now - flight.missing_since >= self.missing_s

    async def _close_failed(self, flight: Flight, state: BatchState) -> None:
        """The provider has not begun it: for want of room, for its lines, or for all of it."""
        record = flight.record
        verdict = refusal(state)
        if verdict is None:
            await self._reject_lines(flight, state)
        elif verdict.code == NO_ROOM:
            self._flights.release(flight)
            try:
                await self._courier.wait_for_room(flight, verdict)
            except RunStopped as stop:
                self._flights.stop(stop)
            if flight.record.status is BatchStatus.LOST:
                self._flights.land(flight, is_lost=True)
            else:
                self.send_again(flight)
        elif verdict.kind is VerdictKind.RETRY:
            await asyncio.to_thread(self._book.end, record, packed(verdict))
            self._flights.land(flight)
        else:
            await self._courier.give_up(flight)
            self._flights.land(flight, is_lost=True)
            if verdict.kind in LOSSES:
                self._lose_key(record, verdict)
            else:
                message = f"{named(flight)} was not begun: {verdict.message}"
                self._flights.stop(RunStopped(message, hint=verdict.hint))

    async def _reject_lines(self, flight: Flight, state: BatchState) -> None:
        """The calls of bad lines have failed; the others were not asked."""
        record = flight.record
        errors = {error.line: error for error in state.errors if error.line is not None}
        keys = self._book.line_keys(record.batch_id)
        faults = [
            (key, packed(rejected(errors[number])))
            for number, key in enumerate(keys, start=1)
            if number in errors
        ]
        await asyncio.to_thread(self._book.end, record, None, faults)
        self._flights.land(flight)
        if not faults:
            words = state.errors[0].message
            message = f"{named(flight)} was not begun, for lines that it does not have: {words}"
            self._flights.stop(RunStopped(message, hint="the same command asks its calls again"))

    async def _fetch(self, flight: Flight, file_id: str, name: str) -> bool:
        """Downloads a file of answers and stores what is in it; whether it is there."""
        record = flight.record
        refusals: list[Verdict] = []
        path = self._spool.path(f"{record.token}.{name}")
        for member in self._members.fetchers(record.key_name, record.account):
            api = self._apis.of(member.key)
            try:
                self._spool.make_folder()
                path.touch(0o600)
                await self._apis.patience.insist(partial(api.download, file_id, path))
            except ApiRefused as refused:
                refusals.append(refused.verdict)
                continue
            except OSError as error:
                raise self._spool.failed(path, error) from error
            flight.unreadable += await self._harvest.bring_in(flight, path)
            self._spool.remove(f"{record.token}.{name}")
            return True
        if _is_gone(refusals):
            return False
        reason = refusals[-1] if refusals else None
        raise RunStopped(
            f"what came of {named(flight)} cannot be fetched"
            f"{f': {reason.message}' if reason else ''}",
            hint=(reason and reason.hint) or "the same command tries again",
        )

    def _lose_key(self, record: BatchRecord, verdict: Verdict) -> None:
        member = self._members.named(record.key_name)
        if verdict.kind is VerdictKind.STOP:
            self._flights.stop(RunStopped(verdict.message, hint=verdict.hint))
        elif member is not None:
            self._members.lose(member, record.model, verdict)


def _is_gone(refusals: list[Verdict]) -> bool:
    """Whether a file is not there: no key finds it that sees the batch."""
    return bool(refusals) and all(map(is_missing, refusals))


def _of_the_rest(state: BatchState) -> Verdict | None:
    """The verdict on calls that a batch has left without an answer; None: they are not charged."""
    if state.status == "cancelled":
        return None
    if state.status == "expired":
        return unanswered("the batch expired before this call was answered", "batch_expired")
    return unanswered("the batch was completed without an answer to this call", "batch_unanswered")
