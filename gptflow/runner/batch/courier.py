"""Brings a sealed file to the provider: each step is in the store before the next one is taken.

So whoever comes after a killed process knows how far it may have come, and looks before it does
anything a second time: an upload is known by its name, a batch by the tag in its metadata.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from gptflow.engine.batch_state import NO_ROOM, ApiRefused, BatchState
from gptflow.engine.config import KeyEntry
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.flights import Flight
from gptflow.runner.batch.members import Member, Members
from gptflow.runner.batch.spool import Spool
from gptflow.store.batches import BatchChange, Batches, BatchRecord, BatchStatus

if TYPE_CHECKING:
    from gptflow.engine.batch_api import BatchApi

_LOOK_BACK_S = 86_400.0
"""By so much the provider's clock may be wrong, when a batch is looked for by its time."""
SETTLE_S = 2.0
"""A request that a killed process has sent may still be under way for so long."""

NOT_FOUND = 404
LOSSES = frozenset({VerdictKind.EXHAUSTED, VerdictKind.RETIRED, VerdictKind.NO_MODEL})
"""Verdicts after which a key is of no use for a batch."""


class Courier:
    """Takes flights to where they run."""

    def __init__(self, book: Batches, spool: Spool, members: Members, apis: Apis) -> None:
        self._book = book
        self._spool = spool
        self._members = members
        self._apis = apis

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
        flight.is_resumed = False
        self._spool.remove(flight.record.token)
        return True

    async def _uploaded(self, flight: Flight, key: KeyEntry) -> str | None:
        record, api = flight.record, self._apis.of(key)
        name, path = f"gptflow-{record.token}.jsonl", self._spool.path(record.token)
        if flight.is_resumed:
            looking = partial(api.find_file, name, record.size_bytes)
            found = await self._apis.patience.insist(looking)
            if found is not None:
                return found
            sealed = (record.token, record.size_bytes, record.digest)
            if not await asyncio.to_thread(self._spool.is_whole, *sealed):
                return None
        return await self._apis.patience.insist(partial(api.upload, path, name))

    async def _submitted(self, flight: Flight, key: KeyEntry) -> BatchState:
        """Makes the batch, unless there is one already: a request may be lost, or its answer."""
        record, api = flight.record, self._apis.of(key)
        may_exist = flight.is_resumed
        if may_exist:
            await self._settle(record)

        async def submit() -> BatchState:
            nonlocal may_exist
            if may_exist:
                found = await _find(api, record)
                if found is not None:
                    return found
            may_exist = True
            return await api.create(record.file_id, record.endpoint, _tag(record))

        return await self._apis.patience.insist(submit)

    async def find(self, flight: Flight, key: KeyEntry) -> bool:
        """Whether a key sees the batch that a killed process may have made: it runs, then.

        Raises ApiRefused where the provider does not say.
        """
        record, api = flight.record, self._apis.of(key)
        await self._settle(record)
        state = await self._apis.patience.insist(partial(_find, api, record))
        if state is None:
            return False
        await self._note(flight, BatchStatus.RUNNING, remote_id=state.remote_id)
        self._spool.remove(record.token)
        return True

    async def is_listed(self, flight: Flight) -> bool:
        """Whether a batch that is not found by its id is found by its tag, or nobody says."""
        record = flight.record
        for member in self._members.fetchers(record.key_name, record.account):
            looking = partial(_find, self._apis.of(member.key), record)
            try:
                state = await self._apis.patience.insist(looking)
            except ApiRefused:
                continue
            if state is not None:
                await self._note(flight, BatchStatus.RUNNING, remote_id=state.remote_id)
                return True
            if self._members.decides(member, record.key_name, record.account):
                return False
        return True

    async def _settle(self, record: BatchRecord) -> None:
        """Waits until no request of a killed process can be under way any more."""
        age_s = self._apis.wall() - record.changed_at
        await self._apis.clock.sleep(min(max(SETTLE_S - age_s, 0.0), SETTLE_S))

    async def _put_off(self, flight: Flight, member: Member, verdict: Verdict) -> bool:
        """What a refusal means: no room, a key that is of no use, or the end of the run."""
        record = flight.record
        if verdict.code == NO_ROOM:
            await self.wait_for_room(flight)
        elif verdict.status == NOT_FOUND and record.status is BatchStatus.SUBMITTING:
            await self.give_up(flight)  # the provider has removed its file
        elif verdict.kind in LOSSES:
            self._members.lose(member, record.model, verdict)
            await self.start_over(flight)
        else:
            raise RunStopped(f"the Batch API refuses: {verdict.message}", hint=verdict.hint)
        return False

    async def wait_for_room(self, flight: Flight) -> None:
        """The provider's queue is full: the batch is made anew of its file, once there is room."""
        record = flight.record
        await self._note(flight, BatchStatus.SUBMITTING, tries=record.tries + 1, remote_id="")
        flight.is_resumed = False
        self._members.refuse_room(record.account, record.model)

    async def start_over(self, flight: Flight) -> None:
        """Its key is of no use: the file goes to another one, whose own upload it has to be."""
        if flight.record.status is BatchStatus.RUNNING:
            await self.give_up(flight)
        else:
            await self._note(flight, BatchStatus.WRITTEN, key_name="", file_id="")
            flight.is_resumed = True  # its file may be removed already

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


async def _find(api: BatchApi, record: BatchRecord) -> BatchState | None:
    return await api.find(_tag(record), record.changed_at - _LOOK_BACK_S)
