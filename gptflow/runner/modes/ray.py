"""Mode ray: the workers of a run are actors on a Ray cluster."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable

from gptflow.errors import MissingExtra, RunStopped, UsageError
from gptflow.runner.crew.link import Link
from gptflow.runner.modes.ray_child import RayChild
from gptflow.runner.modes.ray_frames import Frame, Kind, Size
from gptflow.spec.parallelism import RaySpec, WorkersRange

CLOSE_S = 6.0
"""Twice what the process that speaks with Ray gives a worker. Where it is silent, it hangs."""
PLACE_S = 10.0
"""After so long without a place for a worker a person wants to know."""

BUSY_FOR_S = 6.0
"""Three times the time in which an actor finds out that it is busy."""

OnBatch = Callable[[bytes], object]
OnLost = Callable[[str], object]


class RayLink:
    """The run's end of the line to an actor. What is sent waits until the actor has a place."""

    def __init__(
        self, line: int, post: Callable[[Frame], None], hear: OnBatch, lose: OnLost
    ) -> None:
        self._line = line
        self._post = post
        self._lose = lose
        self._closing = False
        self._ended = asyncio.Event()
        self.hear = hear
        self.hangs = False
        """Whether nobody has said of it that it has ended."""
        self.placed = False
        self.busy_until = 0.0
        """By the loop's clock; of one that has no place yet, never."""

    def send(self, batch: bytes) -> None:
        """Sends a batch. Never waits; is ignored where the worker has gone."""
        if not self._ended.is_set():
            self._post(Frame(Kind.BATCH, self._line, batch))

    async def close(self) -> None:
        """Lets the worker end, and waits until it has."""
        self._closing = True
        if not self._ended.is_set():
            self._post(Frame(Kind.CLOSE, self._line))
            try:
                await asyncio.wait_for(self._ended.wait(), CLOSE_S)
            except TimeoutError:
                self.hangs = True

    def end(self, why: str) -> None:
        """The worker has ended."""
        if not self._ended.is_set():
            self._ended.set()
            if not self._closing:
                self._lose(why)


class RayMode:
    """Actors on the cluster that the spec names, or on one of this machine for the time of the run.

    A process of its own speaks with Ray (`ray_driver`): begun with the first worker, and again
    after it was lost.
    """

    title = "Ray actor"
    start_s: float | None = None

    def __init__(
        self, spec: RaySpec, workers: int | WorkersRange, say: Callable[[str], object]
    ) -> None:
        """Prepares it; nothing is started yet.

        Args:
            spec: which cluster; where it names none, RAY_ADDRESS counts.
            workers: how many there are, or may be. Each takes one processor of the cluster.
            say: is told, for a person, when workers wait for a place.
        """
        self._spec = spec
        self._most = workers.max if isinstance(workers, WorkersRange) else workers
        self._grows = isinstance(workers, WorkersRange)
        self._say = say
        self._child: RayChild | None = None
        self._leaving: list[asyncio.Future[None]] = []
        """Of processes that were lost, or are not needed any more."""
        self._joining = asyncio.Lock()
        self._links: dict[int, RayLink] = {}
        self._lines = 0
        self._alarm: asyncio.TimerHandle | None = None
        self.on_busy: Callable[[int], object] = lambda _: None
        """Called where so many workers more would have something to do."""
        self.size = Size(0, 0)
        """What the cluster had when it was joined."""

    @property
    def waiting(self) -> int:
        """Workers for which the cluster has no place yet."""
        return sum(not link.placed for link in self._links.values())

    async def hire(self, number: int, on_batch: OnBatch, on_lost: OnLost) -> Link:
        """Has the cluster start a worker, and comes back: it may have to wait for a place.

        Raises:
            MissingExtra: Ray is not installed.
            UsageError: there is no such cluster, or its nodes have another gptflow.
            RunStopped: there is none any more.
        """
        del number  # the one that replaces a worker is another actor
        async with self._joining:
            child = self._child or await self._join()
        self._lines += 1
        link = RayLink(self._lines, child.post, on_batch, on_lost)
        self._links[self._lines] = link
        child.post(Frame(Kind.HIRE, self._lines))
        self._alarm = self._alarm or asyncio.get_running_loop().call_later(PLACE_S, self._tell)
        return link

    async def close(self) -> None:
        """Leaves the cluster, or ends it if it was begun here."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._child is not None:
            hangs = any(link.hangs for link in self._links.values())
            self._leaving.append(asyncio.ensure_future(self._child.close(in_haste=hangs)))
            self._child = None
        await asyncio.gather(*self._leaving)

    async def _join(self) -> RayChild:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("mode ray", "ray")
        child = RayChild(self._heed, self._lose)
        try:
            self.size = await child.join(self._spec, self._most, grows=self._grows)
        except UsageError as error:
            if not self._leaving:
                raise
            raise RunStopped(f"the Ray cluster was lost: {error.message}") from error
        self._child = child
        return child

    def _heed(self, frame: Frame) -> None:
        link = self._links.get(frame.line)
        if link is None:
            return
        match frame.kind:
            case Kind.BATCH:
                link.hear(frame.body)
            case Kind.PLACED:
                link.placed = True
            case Kind.BUSY:
                link.busy_until = asyncio.get_running_loop().time() + BUSY_FOR_S
                self._grow()
            case Kind.ENDED:
                del self._links[frame.line]
                link.end(frame.body.decode())

    def _lose(self, why: str) -> None:
        """The process that speaks with Ray is gone, and with it all workers."""
        if self._child is not None:
            self._leaving.append(asyncio.ensure_future(self._child.close()))
            self._child = None
        links, self._links = self._links, {}
        for link in links.values():
            link.end(why)

    def _grow(self) -> None:
        """Has workers added where all are busy, as many as there are, and waits for their places.

        A worker that waits for its place is what makes Ray's autoscaler add a node.
        """
        now = asyncio.get_running_loop().time()
        few = len(self._links)
        if few < self._most and all(link.busy_until > now for link in self._links.values()):
            self.on_busy(min(few, self._most - few))

    def _tell(self) -> None:
        self._alarm = None
        if self.waiting:
            few = "1 worker waits" if self.waiting == 1 else f"{self.waiting:,} workers wait"
            self._say(f"{few} for a free processor of the Ray cluster; the others go on")
