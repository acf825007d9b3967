"""Brings a sealed file to the provider: each step is in the store before the next one is taken.

So whoever comes after a killed process knows how far it may have come, and looks before it does
anything a second time: an upload is known by its name, a batch by the tag in its metadata.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from gptflow.engine.batch_state import NO_ROOM, ApiRefused, BatchState, is_missing, is_unsure
from gptflow.engine.config import KeyEntry
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.flights import Flight, named
from gptflow.runner.batch.members import Member, Members
from gptflow.runner.batch.spool import Spool
from gptflow.store.batches import BatchChange, Batches, BatchRecord, BatchStatus

if TYPE_CHECKING:
    from gptflow.engine.batch_api import BatchApi

_LOOK_BACK_S = 86_400.0
"""By so much the provider's clock may be wrong, when a batch is looked for by its time."""
SETTLE_S = 30.0
"""For so long, after the timeout of a request, what it has done may not be seen yet."""
FIRST_LOOK_S = 1.0
"""Between the first two looks for a batch whose answer was lost; then ever longer."""
MOST_REFUSALS = 10
"""So often a queue without anything of ours may have no room."""
NOT_FOUND = 404
_LIMIT = re.compile(r"\blimit:? (\d[\d,]{0,20})", re.IGNORECASE)
_QUEUE_HINT = (
    "set parallelism.batch.enqueued_tokens to what the provider's limits page allows, or wait "
    "until what others have in the queue has ended"
)
LOSSES = frozenset({VerdictKind.EXHAUSTED, VerdictKind.RETIRED, VerdictKind.NO_MODEL})
"""Verdicts after which a key is of no use for a batch."""


class Courier:
    """Takes flights to where they run."""

    def __init__(self, book: Batches, spool: Spool, members: Members, apis: Apis) -> None:
        self._book = book
        self._spool = spool
        self._members = members
        self._apis = apis
        self.say: Callable[[str], None] = lambda _: None

    async def bring(self, flight: Flight, member: Member) -> bool:
        """Takes a flight as far as it goes with a key; whether it runs.

        It does not where its file is gone, where the key is of no use, or where there is no room
        in the provider's queue.

        Raises:
            RunStopped: the provider does not take such batches, or does not answer.
        """
        try:
            return await self._bring(flight, member.key)
        except ApiRefused as refused:
            return await self._put_off(flight, member, refused.verdict)

    async def _bring(self, flight: Flight, key: KeyEntry) -> bool:
        if flight.record.status is BatchStatus.WRITTEN:
            await self._note(flight, BatchStatus.UPLOADING, key_name=key.name)
        if flight.record.status is BatchStatus.UPLOADING:
            file_id = await self._uploaded(flight, key)
            if file_id is None:
                await self.give_up(flight)
                return False
            await self._note(flight, BatchStatus.SUBMITTING, file_id=file_id)
        if flight.record.status is BatchStatus.SUBMITTING:
            state = await self._submitted(flight, key)
            await self._note(flight, BatchStatus.RUNNING, remote_id=state.remote_id)
        self._spool.remove(flight.record.token)
        return True

    async def _uploaded(self, flight: Flight, key: KeyEntry) -> str | None:
        record, api = flight.record, self._apis.of(key)
        name, path = f"gptflow-{record.token}.jsonl", self._spool.path(record.token)
        if not path.exists():
            return None
        return await self._apis.patience.insist(partial(api.upload, path, name))

    async def _submitted(self, flight: Flight, key: KeyEntry) -> BatchState:
        """Makes the batch. Where the answer is lost, it is looked for before it is made again."""
        api, asked_at = self._apis.of(key), 0.0

        async def submit() -> BatchState:
            nonlocal asked_at
            if asked_at and (made := await self._made(flight, asked_at)) is not None:
                return made
            await self._note(flight, BatchStatus.SUBMITTING)  # with the time of the request
            asked_at, record = self._apis.wall(), flight.record
            try:
                return await api.create(record.file_id, record.endpoint, _tag(record))
            except ApiRefused as refused:
                if not is_unsure(refused.verdict):
                    asked_at = 0.0
                raise

        return await self._apis.patience.insist(submit)

    async def find(self, flight: Flight) -> bool:
        """Whether a killed process has had this batch made: it runs, then.

        Raises:
            RunStopped: no key can look for it.
        """
        state = await self._made(flight, flight.record.changed_at)
        if state is None:
            return False
        await self._note(flight, BatchStatus.RUNNING, remote_id=state.remote_id)
        flight.is_resumed = False
        self._spool.remove(flight.record.token)
        return True

    async def _made(self, flight: Flight, asked_at: float) -> BatchState | None:
        """The batch of a request that was sent then; None once it cannot come any more."""
        clock, longest_s = self._apis.clock, self._apis.timeout_s + SETTLE_S
        left_s = asked_at + longest_s - self._apis.wall()
        until, wait_s = clock.now() + min(max(left_s, 0.0), longest_s), FIRST_LOOK_S
        while True:
            is_last = clock.now() >= until
            found = await self._sighted(flight)
            if found is not None or is_last:
                return found
            await clock.sleep(min(wait_s, max(until - clock.now(), 0.0)))
            wait_s *= 2

    async def _sighted(self, flight: Flight) -> BatchState | None:
        """The batch with the tag of a flight, as all keys see it that should."""
        record, has_looked = flight.record, False
        seen: dict[str, tuple[BatchState, Member]] = {}
        for member in self._members.fetchers(record.key_name, record.account):
            if member.account != record.account and member.key.name != record.key_name:
                continue
            looking = partial(_find, self._apis.of(member.key), record)
            try:
                found = await self._apis.patience.insist(looking)
            except ApiRefused as refused:
                self._cannot_look(flight, member, refused.verdict)
                continue
            seen = {state.remote_id: (state, member) for state in found} | seen
            has_looked |= self._members.decides(member, record.key_name, record.account)
        if seen:
            return await self._oldest(flight, list(seen.values()))
        if not has_looked:
            raise self._members.needed(record.key_name, f"look for {named(flight)}")
        return None

    def _cannot_look(self, flight: Flight, member: Member, verdict: Verdict) -> None:
        if verdict.kind is not VerdictKind.RETIRED:
            message = f"{named(flight)} cannot be looked for: {verdict.message}"
            raise RunStopped(message, hint=verdict.hint or "the same command tries again")
        self._members.lose(member, flight.record.model, verdict, has_looked=True)

    async def _oldest(self, flight: Flight, seen: list[tuple[BatchState, Member]]) -> BatchState:
        """The first of several batches that were made of one file; the others are cancelled."""
        seen.reverse()  # the newest come first, also those of one second
        (kept, owner), *doubles = sorted(seen, key=lambda one: one[0].created_at)
        for double, member in doubles:
            self.say(f"{named(flight)} was made twice: {double.remote_id} is cancelled")
            with suppress(ApiRefused):
                api = self._apis.of(member.key)
                await self._apis.patience.insist(partial(api.cancel, double.remote_id))
        if owner.key.name != flight.record.key_name:
            await self._note(flight, flight.record.status, key_name=owner.key.name)
        return kept

    async def is_listed(self, flight: Flight) -> bool:
        """Whether a batch that is not found by its id is found by its tag, or nobody says."""
        record = flight.record
        for member in self._members.fetchers(record.key_name, record.account):
            looking = partial(_find, self._apis.of(member.key), record)
            try:
                found = await self._apis.patience.insist(looking)
            except ApiRefused:
                continue
            if found:
                await self._note(flight, BatchStatus.RUNNING, remote_id=found[-1].remote_id)
                return True
            if self._members.decides(member, record.key_name, record.account):
                return False
        return True

    async def _put_off(self, flight: Flight, member: Member, verdict: Verdict) -> bool:
        """What a refusal means: no room, a key that is of no use, or the end of the run."""
        record = flight.record
        if verdict.code == NO_ROOM:
            await self.wait_for_room(flight, verdict)
        elif is_missing(verdict) and record.status is BatchStatus.SUBMITTING:
            await self.give_up(flight)  # the provider has removed its file
        elif verdict.kind in LOSSES:
            self._members.lose(member, record.model, verdict)
            await self.start_over(flight)
        else:
            if verdict.kind is VerdictKind.REJECTED:
                await self.give_up(flight)  # it would be refused again
            raise RunStopped(f"the Batch API refuses: {verdict.message}", hint=verdict.hint)
        return False

    async def wait_for_room(self, flight: Flight, verdict: Verdict) -> None:
        """The provider's queue is full: the batch is made anew of its file, once there is room.

        Where the queue holds nothing of ours, the batch itself may be too large for it: its calls
        go into smaller ones.

        Raises:
            RunStopped: it had no room too often.
        """
        record = flight.record
        if not self._members.has_enqueued(record.account, record.model):
            await self._shrink(flight, verdict)
        if flight.record.status is not BatchStatus.LOST:
            await self._note(flight, BatchStatus.SUBMITTING, tries=record.tries + 1, remote_id="")
            self._members.refuse_room(record.account, record.model)

    async def _shrink(self, flight: Flight, verdict: Verdict) -> None:
        record, limit = flight.record, _limit_in(verdict.message)
        refusals = self._members.count_refusal(record.account, record.model)
        if refusals == 1:
            self.say(f"there is no room for {named(flight)}: {verdict.message}")
        is_hopeless = record.calls == 1 and limit is not None and record.tokens > limit
        if is_hopeless or refusals > MOST_REFUSALS:
            await self.give_up(flight)
            message = f"the provider's queue takes none of our batches: {verdict.message}"
            raise RunStopped(message, hint=_QUEUE_HINT)
        if record.calls == 1:
            return
        half = max(record.tokens // 2, 1)
        self._spool.narrow(record.model, min(limit or half, half))
        await self.give_up(flight)
        if limit is None or record.tokens <= limit:  # somebody else may be in the queue
            self._members.refuse_room(record.account, record.model)

    async def start_over(self, flight: Flight) -> None:
        """Its key is of no use: the file goes to another one, whose own upload it has to be."""
        if flight.record.status is BatchStatus.RUNNING:
            await self.give_up(flight)
        else:
            await self._note(flight, BatchStatus.WRITTEN, key_name="", file_id="")

    async def give_up(self, flight: Flight) -> None:
        """Its calls are no longer on their way."""
        await asyncio.to_thread(self._book.give_up, flight.record)
        flight.record = await self._changed(flight, BatchChange(status=BatchStatus.LOST))
        self._spool.remove(flight.record.token)

    async def assign(self, flight: Flight, member: Member) -> None:
        """From now on it is this account's."""
        flight.record = await self._changed(flight, BatchChange(account=member.account))

    async def _note(
        self,
        flight: Flight,
        status: BatchStatus,
        *,
        key_name: str | None = None,
        file_id: str | None = None,
        remote_id: str | None = None,
        tries: int | None = None,
    ) -> None:
        change = BatchChange(
            status=status, key_name=key_name, file_id=file_id, remote_id=remote_id, tries=tries
        )
        flight.record = await self._changed(flight, change)

    async def _changed(self, flight: Flight, change: BatchChange) -> BatchRecord:
        return await asyncio.to_thread(self._book.change, flight.record.batch_id, change)


def _tag(record: BatchRecord) -> str:
    """The name of a batch at its provider: another one each time that it is made."""
    return f"{record.token}.{record.tries}"


def _limit_in(message: str) -> int | None:
    """The tokens that may be enqueued, where a refusal names them."""
    found = _LIMIT.search(message)
    return int(found[1].replace(",", "")) if found else None


async def _find(api: BatchApi, record: BatchRecord) -> list[BatchState]:
    return await api.find(_tag(record), record.changed_at - _LOOK_BACK_S)
