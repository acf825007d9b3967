"""The foreman: hands rows to the workers of a crew, and replaces those that are lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from gptflow.errors import GptflowError, RunStopped
from gptflow.records import Failure, FailureKind, Row, RowResult, RowStatus
from gptflow.runner.crew.hand import Answering, Hand, Orders, WorkerGone
from gptflow.runner.crew.link import Mode

MOST_DEATHS = 3
"""Workers that may end with the same row in their hands before it fails: it may be the cause."""
MOST_FALSE_STARTS = 3
"""Workers in a row that may end before they can take a row."""

LOOK_S = 3.0
"""Between two looks at a worker that has calls on the wire."""


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
        self._changed = asyncio.Event()
        self._false_starts = 0
        self._error: GptflowError | None = None
        self._draining = False
        self._deaths: Counter[int] = Counter()
        """Of the rows that were in the hands of workers that ended."""

    async def __aenter__(self) -> Self:
        self.grow(self._workers)
        return self

    def grow(self, by: int) -> None:
        """Adds workers."""
        for _ in range(by):
            number = len(self._places)
            place = asyncio.create_task(self._keep_filled(number))
            place.add_done_callback(self._note_bug)
            self._places[number] = place

    async def __aexit__(self, *_: object) -> None:
        for task in self._places.values():
            task.cancel()
        await asyncio.gather(*self._places.values(), return_exceptions=True)

    async def converse(self, row: Row) -> RowResult:
        """Has a row brought to its result by the worker with the fewest.

        Raises:
            GptflowError: what concerns the run, or that there can be no workers.
        """
        while True:
            hand = await self._free_hand()
            try:
                return await hand.converse(row)
            except WorkerGone as gone:
                self._deaths[row.position] += 1
                if self._deaths[row.position] >= MOST_DEATHS:
                    return _failed(row, self._mode.title, str(gone))

    def drain(self) -> None:
        """Lets no row wait for a worker any more."""
        self._draining = True
        self._changed.set()

    async def _free_hand(self) -> Hand:
        while not self._hands:
            if self._error is not None:
                raise self._error
            if self._draining:
                raise RunStopped("the run was interrupted")
            self._changed.clear()
            await self._changed.wait()
        return min(self._hands.values(), key=lambda hand: hand.load)

    async def _keep_filled(self, number: int) -> None:
        """Sees to it that there is a worker in a place, until the crew is sent home."""
        try:
            while self._error is None:
                await self._one_life(number)
        except GptflowError as error:
            self._give_up(error)

    async def _one_life(self, number: int) -> None:
        """A worker, from its start to its end."""
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        keys = self._orders.keys
        hand = Hand(self._orders, self._desk, keys[number % len(keys)])

        def lost(how: str) -> None:
            self._hands.pop(number, None)
            hand.lost(how)
            if not ended.done():
                ended.set_result(how)

        link = await self._mode.hire(number, hand.take, lost)
        hand.begin(link)
        try:
            try:
                await hand.ready
            except WorkerGone as gone:
                self._note_false_start(number, str(gone))
                return
            self._false_starts = 0
            self._hands[number] = hand
            self._changed.set()
            async with _watched(hand, lost):
                how = await ended
            self._say(f"{self._mode.title} {number} {how}: another one takes its place")
        finally:
            self._hands.pop(number, None)
            await hand.close()

    def _note_false_start(self, number: int, how: str) -> None:
        self._false_starts += 1
        if self._false_starts >= MOST_FALSE_STARTS:
            raise RunStopped(
                f"{self._mode.title} {number} {how} before it could take a row, and so did others",
                hint="what it wrote to stderr may say why",
            )

    def _note_bug(self, place: asyncio.Task[None]) -> None:
        """Nobody is to wait for a worker that will not come."""
        error = None if place.cancelled() else place.exception()
        if error is not None:
            self._give_up(RunStopped(f"no {self._mode.title} can be started: {error}"))

    def _give_up(self, error: GptflowError) -> None:
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


def _failed(row: Row, title: str, how: str) -> RowResult:
    """The result of a row that has cost too many workers."""
    message = f"{MOST_DEATHS} workers ended while they had it; the last {title} {how}"
    failure = Failure(FailureKind.WORKER, message)
    return RowResult(row.position, RowStatus.FAILED, row.raw, failure=failure)
