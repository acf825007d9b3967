"""The lanes of a run: each takes one row after the other, and has it brought to its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from gptflow.errors import DataError, GptflowError, RunStopped, StoreError
from gptflow.records import Row, RowResult, RowStatus
from gptflow.runner.desk import Archive, Desk
from gptflow.runner.events import Listener, RowEnded
from gptflow.runner.width import Width

MAX_UNCOMMITTED = 256
"""Results that may wait for the disk before the rows are held back."""
MAX_UNCOMMITTED_BYTES = 1 << 24
"""The same, in bytes: 256 rows of megabytes each are too many."""

Converse = Callable[[Row], Awaitable[RowResult | None]]
"""Brings a row to its result, wherever that is done; None where it stays pending."""


class Lanes:
    """Takes the rows of a run to their results, several at a time, and has these stored."""

    def __init__(
        self,
        converse: Converse,
        desk: Desk,
        archive: Archive,
        rows: Iterator[Row],
        emit: Listener,
    ) -> None:
        self._converse = converse
        desk.on_reply = self._widen
        self._archive = archive
        self._rows = rows
        self._emit = emit
        self._width = Width.fixed(1)
        self._lanes: set[asyncio.Task[None]] = set()
        self._group = asyncio.TaskGroup()
        self._stopping = False
        self._draining = False
        self._ended_by: GptflowError | None = None
        self.on_result: Callable[[RowStatus], object] = lambda _: None
        """Called as soon as a row has its result, before its lane takes the next one."""
        self.on_drain: Callable[[], object] = lambda: None
        """Called when no row is to wait for more than its calls any more."""
        self.in_flight = 0
        """Conversations that have begun and not ended."""
        self._uncommitted: set[asyncio.Future[None]] = set()
        self._uncommitted_bytes = 0

    def drain(self) -> None:
        """Takes no further row; a conversation in flight goes on as far as it has not to wait.

        Where the engine says RunStopped from now on, its row stays pending.
        """
        self._stopping = self._draining = True
        self.on_drain()

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
            raise first_error(group) from None
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
                await self._work_on(row)
            except (RunStopped, DataError) as error:
                self._stopping = True
                if not self._draining or isinstance(error, DataError):
                    self._ended_by = self._ended_by or error
            except StoreError:
                self._stopping = True  # a reply that comes now must open no lane in a closing group
                raise

    async def _work_on(self, row: Row) -> None:
        """Takes a row to its end, and has the result stored."""
        self.in_flight += 1
        try:
            result = await self._converse(row)
        finally:
            self.in_flight -= 1
        if result is not None:
            await self._save(result)

    async def _save(self, result: RowResult) -> None:
        saved = self._archive.save_result(result)
        self.on_result(result.status)
        event = RowEnded(result.position, result.status, result.failure)
        size = len(result.raw) + len(result.fields)
        self._uncommitted.add(saved)
        self._uncommitted_bytes += size
        saved.add_done_callback(partial(self._end_save, event, size))
        if (
            saved.done()  # at once: the store has failed, which is told by waiting for it
            or len(self._uncommitted) > MAX_UNCOMMITTED
            or self._uncommitted_bytes > MAX_UNCOMMITTED_BYTES
        ):
            await saved  # a slow disk holds the rows back, instead of filling the memory

    def _end_save(self, event: RowEnded, size: int, saved: asyncio.Future[None]) -> None:
        self._uncommitted.discard(saved)
        self._uncommitted_bytes -= size
        if not saved.cancelled() and saved.exception() is None:
            self._emit(event)

    def _widen(self) -> None:
        """Opens a lane more, if a key is free for it."""
        if not self._stopping and self._width.is_narrow(len(self._lanes)):
            self._open_lane()


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that ended the lanes: the first leaf of a group."""
    error = group.exceptions[0]
    return first_error(error) if isinstance(error, BaseExceptionGroup) else error
