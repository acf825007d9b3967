"""The foreman: hands rows to the workers of a crew, and replaces those that are lost."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from gptflow.errors import GptflowError, RunStopped, WorkerFailed
from gptflow.records import Failure, FailureKind, Row, RowResult, RowStatus
from gptflow.runner.crew.hand import Answering, Hand, Orders, WorkerGone
from gptflow.runner.crew.link import Mode

SUSPECT = 2
"""Workers that have ended while a row was all theirs to work on: from then on it is tried alone."""
GUILTY = 3
"""One more that ends with it alone was ended by it."""
MOST_DEATHS = 10
"""Workers that may end with a row in their hands, whatever it waited for."""
MOST_FALSE_STARTS = 3
"""Workers of a place in a row that may end before they can take a row."""
BARREN = 10
"""Workers in a row, for each place, that may end without a row that has come to its end."""
FAIR_START_S = 5.0
"""So long rows are kept for workers that are only starting."""
START_AGAIN_S = 1.0
LOOK_S = 3.0
"""Between two looks at a worker."""


class Foreman:
    """A crew of workers, all of one mode. Use it in `async with`."""

    def __init__(
        self,
        mode: Mode,
        workers: int,
        orders: Orders,
        desk: Answering,
        say: Callable[[str], object],
    ) -> None:
        """Build a crew; nobody is there yet.

        Args:
            mode: where they live.
            workers: how many.
            orders: what they work by.
            desk: answers their calls.
            say: is told what a person should know.
        """
        self._mode = mode
        self._workers = workers
        self._orders = orders
        self._desk = desk
        self._say = say
        self._hands: dict[int, Hand] = {}
        """Those that can take rows, by their place."""
        self._places: dict[int, asyncio.Task[None]] = {}
        self._starts = 0
        """Workers that could take rows, so far."""
        self._starting = 0
        """Places whose worker is soon to come."""
        self._rows = 0
        """That are with the crew, or wait for a worker."""
        self._changed = asyncio.Event()
        self._trial = asyncio.Lock()
        self._error: Exception | None = None
        self._draining = False
        self._deaths: Counter[int] = Counter()
        """Of workers, by the rows that were in their hands."""
        self._suspicions: Counter[int] = Counter()
        """The same, where the row did not wait for anything outside of the worker."""
        self._barren = 0
        """Workers that have ended since a row has come to its end."""

    async def __aenter__(self) -> Self:
        self.grow(self._workers)
        return self

    def grow(self, by: int) -> None:
        """Adds workers."""
        for _ in range(by):
            number = len(self._places)
            place = asyncio.create_task(self._keep_filled(number))
            place.add_done_callback(self._end_place)
            self._places[number] = place

    async def __aexit__(self, *_: object) -> None:
        for task in self._places.values():
            task.cancel()
        await asyncio.gather(*self._places.values(), return_exceptions=True)

    async def converse(self, row: Row) -> RowResult:
        """Has a row brought to its result by the worker with the fewest.

        Raises:
            RunStopped: there can be no workers any more.
            GptflowError: what concerns the run.
        """
        self._rows += 1
        try:
            while True:
                result = await self._try(row)
                if result is not None:
                    return result
        finally:
            self._rows -= 1
            self._changed.set()

    def drain(self) -> None:
        """Lets no row wait for a worker any more."""
        self._draining = True
        self._changed.set()

    async def _try(self, row: Row) -> RowResult | None:
        """A row's result; None if its worker has ended first."""
        position = row.position
        try:
            if self._suspicions[position] < SUSPECT:
                result = await (await self._free_hand()).converse(row)
            else:
                result = await self._converse_alone(row)
        except WorkerGone as gone:
            self._deaths[position] += 1
            self._suspicions[position] += gone.is_suspect
            if self._suspicions[position] >= GUILTY or self._deaths[position] >= MOST_DEATHS:
                return _failed(row, self._deaths[position], f"{self._mode.title} {gone}")
            return None
        self._barren = 0
        return result

    async def _converse_alone(self, row: Row) -> RowResult:
        """Has a row talked through by a worker that has nothing else: so nothing else is to blame.

        One row at a time, and the other workers go on.
        """
        async with self._trial:
            hand = await self._free_hand()
            hand.is_reserved = True
            try:
                while hand.load and hand in self._hands.values():
                    await self._change()
                return await hand.converse(row)
            finally:
                hand.is_reserved = False
                self._changed.set()

    async def _free_hand(self) -> Hand:
        """The worker with the fewest rows, if it has no more than its share.

        Without that the first one to come would be given all that there is to do at the start.
        """
        while True:
            if self._error is not None:
                raise self._error
            free = [hand for hand in self._hands.values() if not hand.is_reserved]
            hand = min(free, key=lambda hand: hand.load, default=None)
            if hand is not None and hand.load < math.ceil(self._rows / self._expected()):
                return hand
            if not self._hands and self._draining:
                raise RunStopped("the run was interrupted")
            await self._change()

    def _expected(self) -> int:
        return max(1, len(self._hands) + self._starting)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _keep_filled(self, number: int) -> None:
        """Sees to it that there is a worker in a place, until the crew is sent home."""
        false_starts, starts = 0, self._starts
        while self._error is None and not self._draining:
            try:
                if await self._one_life(number):
                    false_starts = 0
                    continue
                told = None
            except WorkerFailed as failed:
                told = failed
            false_starts += 1
            if self._starts > starts:  # others can: this one was killed, most likely
                false_starts, starts = 1, self._starts
            if false_starts >= MOST_FALSE_STARTS:
                raise told or RunStopped(
                    f"{self._mode.title} {number} ended {false_starts} times before it could take"
                    " a row",
                    hint="what it wrote to stderr may say why",
                )
            await asyncio.sleep(START_AGAIN_S)

    async def _one_life(self, number: int) -> bool:
        """A worker, from its start to its end. False: it has never been ready.

        Raises:
            WorkerFailed: it cannot be started.
            GptflowError: it can do nothing for this run, and no other one could.
        """
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        keys = self._orders.keys
        hand = Hand(self._orders, self._desk, keys[number % len(keys)])

        def lost(how: str) -> None:
            if self._hands.get(number) is hand:
                del self._hands[number]
            hand.lost(how)
            if not ended.done():
                ended.set_result(how)

        try:
            async with self._start():
                hand.begin(await self._mode.hire(number, hand.take, lost))
                try:
                    async with asyncio.timeout(self._mode.start_s):
                        await asyncio.shield(hand.ready)
                except WorkerGone as gone:
                    self._say(f"{self._mode.title} {number} {gone} before it could take a row")
                    return False
                except TimeoutError:
                    self._say(f"{self._mode.title} {number} does not start: it is given up")
                    return False
                self._hands[number] = hand
                self._starts += 1
            async with _watched(hand, lost):
                how = await ended
            self._note_death(number, how)
        finally:
            if self._hands.get(number) is hand:
                del self._hands[number]
            self._changed.set()
            await hand.close()
        return True

    @asynccontextmanager
    async def _start(self) -> AsyncIterator[None]:
        """Counts a worker as one that is to come meanwhile, if it does not take for ever."""
        self._starting += 1
        is_counted = True

        def forget() -> None:
            nonlocal is_counted
            self._starting -= is_counted
            is_counted = False
            self._changed.set()

        timer = asyncio.get_running_loop().call_later(FAIR_START_S, forget)
        try:
            yield
        finally:
            timer.cancel()
            forget()

    def _note_death(self, number: int, how: str) -> None:
        told = f"{self._mode.title} {number} {how}"
        if self._draining:
            self._say(told)
            return
        self._barren += 1
        if self._barren >= BARREN * len(self._places):
            raise RunStopped(
                f"{told}, as {self._barren - 1} others before it, and no row came to its end",
                hint="what they wrote to stderr may say why",
            )
        self._say(f"{told}: another one takes its place")

    def _end_place(self, place: asyncio.Task[None]) -> None:
        """Nobody is to wait for a worker that will not come.

        Where others work, one that cannot be started is missed, and no more.
        """
        error = None if place.cancelled() else place.exception()
        if error is None:
            return
        if isinstance(error, WorkerFailed) and self._hands:
            self._say(f"{error}; {len(self._hands)} go on without it")
        elif isinstance(error, GptflowError) and self._hands:
            self._error = self._error or RunStopped(error.message, hint=error.hint)
        elif isinstance(error, Exception):
            self._error = self._error or error
        self._changed.set()


@asynccontextmanager
async def _watched(hand: Hand, lost: Callable[[str], object]) -> AsyncIterator[None]:
    """Looks after a worker meanwhile: one that hangs does not end by itself, and says nothing.

    It is given up at the second look at which it is silent: at the first one this process may just
    have been woken, with the answers still to be read.
    """

    async def watch() -> None:
        was_silent = False
        while True:
            await asyncio.sleep(LOOK_S)
            is_silent = hand.is_silent()
            if is_silent and was_silent:
                lost("hangs")
            was_silent = is_silent

    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()


def _failed(row: Row, deaths: int, how: str) -> RowResult:
    """The result of a row that has cost too many workers."""
    message = f"{how}, as {deaths - 1} workers before it that had this row"
    failure = Failure(FailureKind.WORKER, message)
    return RowResult(row.position, RowStatus.FAILED, row.raw, failure=failure)
