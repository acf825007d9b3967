"""A worker: an event loop with an engine, taking rows and giving events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from gptflow.data.json_text import encoded
from gptflow.engine.stored import stored_reply
from gptflow.errors import CallFailed, DataError, GptflowError, RowFailed, RunStopped, StoreError
from gptflow.pipeline.plan import Plan
from gptflow.records import (
    Call,
    Failure,
    FailureKind,
    Fields,
    Reply,
    Row,
    RowResult,
    RowStatus,
)
from gptflow.runner.dialogue import Dialogue
from gptflow.runner.events import CallAnswered, Listener, RowEnded
from gptflow.runner.width import Width

MAX_UNCOMMITTED = 256
"""Results that may wait for the disk before the rows are held back."""
MAX_UNCOMMITTED_BYTES = 1 << 24
"""The same, in bytes: 256 rows of megabytes each are too many."""


class Asker(Protocol):
    """What a worker needs of an engine."""

    async def ask(self, call: Call, *, prefer: str | None = None) -> Reply:
        """The reply, or CallFailed; RunStopped where no call can be answered any more."""


class Archive(Protocol):
    """What a worker needs of the store, for one run."""

    def find_reply(self, call_key: bytes) -> bytes | None:
        """The body of a stored reply that this run may reuse."""

    def save_reply(self, call: Call, reply: Reply) -> asyncio.Future[None]:
        """Resolves when the reply is on disk."""

    def save_result(self, result: RowResult) -> asyncio.Future[None]:
        """Resolves when the row's result, and all its replies, are on disk."""


@dataclass(slots=True)
class Asked:
    """What a row has asked so far: it is stored with the row, also where the row fails."""

    calls: list[bytes] = field(default_factory=list)
    """Call keys, in their order."""
    truncated: bool = False
    """Whether any reply was cut off."""


class Worker:
    """Takes rows through their conversations, several at a time."""

    def __init__(
        self, plan: Plan, engine: Asker, archive: Archive, rows: Iterator[Row], emit: Listener
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._archive = archive
        self._rows = rows
        self._emit = emit
        self._asking: dict[bytes, asyncio.Future[Reply]] = {}
        self._width = Width.fixed(1)
        self._lanes: set[asyncio.Task[None]] = set()
        self._group = asyncio.TaskGroup()
        self._stopping = False
        self._draining = False
        self._ended_by: GptflowError | None = None
        self.on_result: Callable[[RowStatus], object] = lambda _: None
        """Called as soon as a row has its result, before its lane takes the next one."""
        self.in_flight = 0
        """Conversations that have begun and not ended."""
        self._uncommitted: set[asyncio.Future[None]] = set()
        self._uncommitted_bytes = 0

    def drain(self) -> None:
        """Takes no further row; a conversation in flight goes on as far as it has not to wait.

        Where the engine says RunStopped from now on, its row stays pending.
        """
        self._stopping = self._draining = True

    async def run(self, width: Width) -> None:
        """Works until the rows are used up, or `drain` was called and what was in flight is done.

        Every result is committed on return.

        Raises:
            RunStopped: no call can be answered any more. The calls in flight are waited for
                first: they may be paid already.
            DataError: the source changed; the same holds.
            StoreError: nothing can be written any more; all conversations end at once.
        """
        try:
            self._width = width
            async with self._group:
                for _ in range(width.first):
                    self._open_lane()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            if self._uncommitted:
                await asyncio.wait(self._uncommitted)
        if self._ended_by is not None:
            raise self._ended_by

    def _open_lane(self) -> None:
        lane = self._group.create_task(self._lane())
        self._lanes.add(lane)
        lane.add_done_callback(self._lanes.discard)

    async def _lane(self) -> None:
        """One conversation after the other: a slot is taken before the row is."""
        while not self._stopping and not self._width.is_wide(len(self._lanes)):
            try:
                row = next(self._rows, None)
                if row is None:
                    return
                await self._converse(row)
            except (RunStopped, DataError) as error:
                self._stopping = True
                if not self._draining or isinstance(error, DataError):
                    self._ended_by = self._ended_by or error
            except StoreError:
                self._stopping = True  # a reply that comes now must open no lane in a closing group
                raise

    async def _converse(self, row: Row) -> None:
        """Takes a row to its end, and has the result stored."""
        asked = Asked()
        self.in_flight += 1
        try:
            fields = await self._fields(row, asked)
            result = _result(row, asked, fields=encoded(fields))
        except CallFailed as failed:
            asked.truncated |= failed.reply is not None and failed.reply.truncated
            result = _result(row, asked, failure=failed.failure)
        except RowFailed as failed:
            result = _result(row, asked, failure=failed.failure)
        except GptflowError:
            raise  # the run's business, not the row's
        except Exception as bug:  # noqa: BLE001  # one row must not end a run of a million
            failure = Failure(FailureKind.BUG, f"{type(bug).__name__}: {bug}")
            result = _result(row, asked, failure=failure)
        finally:
            self.in_flight -= 1
        await self._save(result)

    async def _fields(self, row: Row, asked: Asked) -> Fields:
        """Answers the calls of a row's conversation until it gives the row's fields."""
        dialogue = Dialogue(self._plan, row)
        key_name = None
        said = dialogue.begin()
        while isinstance(said, Call):
            asked.calls.append(said.key)
            reply = await self._reply(said, key_name)
            asked.truncated |= reply.truncated
            key_name = reply.key_name or key_name
            said = await dialogue.answer(reply)
        return said

    async def _save(self, result: RowResult) -> None:
        saved = self._archive.save_result(result)
        self.on_result(result.status)
        event = RowEnded(result.position, result.status, result.failure)
        size = len(result.raw) + len(result.fields)
        self._uncommitted.add(saved)
        self._uncommitted_bytes += size
        saved.add_done_callback(partial(self._end_save, event, size))
        if (
            len(self._uncommitted) > MAX_UNCOMMITTED
            or self._uncommitted_bytes > MAX_UNCOMMITTED_BYTES
        ):
            await saved  # a slow disk holds the rows back, instead of filling the memory

    def _end_save(self, event: RowEnded, size: int, saved: asyncio.Future[None]) -> None:
        self._uncommitted.discard(saved)
        self._uncommitted_bytes -= size
        if not saved.cancelled() and saved.exception() is None:
            self._emit(event)

    async def _reply(self, call: Call, prefer: str | None) -> Reply:
        """The reply to a call: out of the store, or asked once however many rows want it.

        A new reply is on disk before it is given back, and its slot is held until then: so a
        crash costs at most the calls in flight.
        """
        body = self._archive.find_reply(call.key)
        asked = self._asking.get(call.key)
        reused = body is not None or asked is not None
        try:
            if body is not None:
                reply = stored_reply(call, body)
            elif asked is not None:
                reply = await asyncio.shield(asked)
            else:
                reply = await self._ask(call, prefer)
        except CallFailed as failed:
            if failed.reply is not None:  # a refusal is an answer too: it is paid, and reused
                self._emit(CallAnswered(call.step, call.model, failed.reply.usage, reused))
            raise
        self._emit(CallAnswered(call.step, call.model, reply.usage, reused))
        return reply

    async def _ask(self, call: Call, prefer: str | None) -> Reply:
        asked = self._asking[call.key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._ask_and_store(call, prefer)
        except asyncio.CancelledError:
            asked.cancel()
            raise
        except Exception as error:  # a bug too: the rows that wait for it must not wait for ever
            asked.set_exception(error)
            asked.exception()  # seen: there may be no other row that waits for it
            raise
        finally:
            del self._asking[call.key]
        asked.set_result(reply)
        return reply

    async def _ask_and_store(self, call: Call, prefer: str | None) -> Reply:
        try:
            reply = await self._engine.ask(call, prefer=prefer)
        except CallFailed as failed:
            if failed.reply is not None:
                await self._archive.save_reply(call, failed.reply)
            raise
        saved = self._archive.save_reply(call, reply)
        if not self._stopping and self._width.is_narrow(len(self._lanes)):
            self._open_lane()
        await saved
        return reply


def _result(
    row: Row, asked: Asked, *, fields: bytes = b"{}", failure: Failure | None = None
) -> RowResult:
    return RowResult(
        row.position,
        RowStatus.DONE if failure is None else RowStatus.FAILED,
        row.raw,
        fields,
        failure,
        calls=tuple(asked.calls),
        truncated=asked.truncated,
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that ended the lanes: the first leaf of a group."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
