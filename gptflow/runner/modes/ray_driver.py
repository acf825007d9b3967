"""The process that speaks with Ray for a run: a child of the run, which begins and ends it.

They send each other `ray_frames` over a pair of sockets. When the run's end closes, in whatever way
the run has ended, the actors end, and this process with them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from gptflow.errors import GptflowError
from gptflow.runner.crew.frames import Frames
from gptflow.runner.crew.mailbox import Mailbox
from gptflow.runner.modes.ray_cluster import Cluster, ending
from gptflow.runner.modes.ray_frames import Frame, Kind, Refused, Wanted, decoded, encoded
from gptflow.runner.modes.ray_stream import Stream

SPACING_S = 0.0025
"""Between two messages one way with the same actor, times the number of actors: so all of them
together cost this process less than a core, and a batch waits less than a model takes."""
END_S = 3.0
"""For a worker that was told to end."""

Tell = Callable[[Frame], None]


class Remote:
    """A worker on the cluster: brings it what it is sent, and fetches what it sends."""

    def __init__(
        self, cluster: Cluster, line: int, tell: Tell, spacing_s: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._line = line
        self._tell = tell
        self._spacing_s = spacing_s
        self._outgoing = Stream(time.monotonic)
        self._incoming = Frames(self._bring, lambda: None)
        self._is_placed = False
        self._life = asyncio.ensure_future(self._live())

    def send(self, batch: bytes) -> None:
        """Sends a batch, when the worker has its place."""
        self._outgoing.put(batch)

    def close(self) -> None:
        """Lets the worker end; one that waits for its place gets none, one that hangs is killed."""
        self._outgoing.end()
        loop = asyncio.get_running_loop()
        loop.call_later(END_S if self._is_placed else 0, self._life.cancel)

    def when_ended(self, then: Callable[[], object]) -> None:
        """Calls `then` when the worker has ended, and the run was told."""
        self._life.add_done_callback(lambda _: then())

    def _bring(self, batch: bytes) -> None:
        self._tell(Frame(Kind.BATCH, self._line, batch))

    async def _live(self) -> None:
        actor, how = None, "has ended"
        try:
            actor = self._cluster.new_actor()
            await actor.begin.remote(self._cluster.keys_path)
            self._is_placed = True
            self._tell(Frame(Kind.PLACED, self._line))
            await self._both_ways(actor)
        except Exception as error:  # noqa: BLE001  # Ray's or the worker's: it is lost either way
            how = ending(error)
        finally:
            if actor is not None:
                with suppress(Exception):
                    self._cluster.kill(actor)
            self._tell(Frame(Kind.ENDED, self._line, how.encode()))

    async def _both_ways(self, actor: Any) -> None:
        pushing, pulling, _ = ways = [
            asyncio.ensure_future(self._push(actor)),
            asyncio.ensure_future(self._pull(actor)),
            asyncio.ensure_future(self._watch(actor)),
        ]
        try:
            await asyncio.wait([pushing, pulling], return_when=asyncio.FIRST_COMPLETED)
            if not pulling.done():
                pushing.result()  # all was sent, the end included
            await pulling
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _push(self, actor: Any) -> None:
        """Sends one message after the other: order is kept, and a lost one ends it all."""
        while (piece := await self._outgoing.piece(self._spacing_s())) is not None:
            await actor.push.remote(piece)
        await actor.close.remote()

    async def _watch(self, actor: Any) -> None:
        while self._cluster.grows:
            await actor.busy.remote()
            self._tell(Frame(Kind.BUSY, self._line))

    async def _pull(self, actor: Any) -> None:
        while (piece := await actor.pull.remote(self._spacing_s())) is not None:
            self._incoming.data_received(piece)


class Driver:
    """The workers of a run."""

    def __init__(self, cluster: Cluster, tell: Tell) -> None:
        self._cluster = cluster
        self._tell = tell
        self._remotes: dict[int, Remote] = {}

    def heed(self, frame: Frame) -> None:
        """Does what the run says."""
        if frame.kind is Kind.HIRE:
            self._hire(frame.line)
        elif remote := self._remotes.get(frame.line):
            if frame.kind is Kind.BATCH:
                remote.send(frame.body)
            else:
                remote.close()

    def _hire(self, line: int) -> None:
        remote = Remote(self._cluster, line, self._tell, self._spacing_s)
        self._remotes[line] = remote
        remote.when_ended(lambda: self._remotes.pop(line, None))

    def _spacing_s(self) -> float:
        return SPACING_S * len(self._remotes)


async def serve(line: socket.socket) -> None:
    """Speaks with the run until it is gone."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    _, frames = await loop.create_connection(lambda: Frames(mailbox.put, mailbox.end), sock=line)

    def tell(frame: Frame) -> None:
        frames.send(encoded(frame))

    first = await mailbox.receive()
    if first is None:
        return
    try:
        wanted = msgspec.json.decode(decoded(first).body, type=Wanted)
        cluster = Cluster.join(wanted)
    except GptflowError as error:
        tell(Frame(Kind.REFUSED, body=msgspec.json.encode(Refused(error.message, error.hint))))
    else:
        tell(Frame(Kind.JOINED, body=msgspec.json.encode(cluster.size)))
        driver = Driver(cluster, tell)
        while (batch := await mailbox.receive()) is not None:
            driver.heed(decoded(batch))
        cluster.leave()
        shutil.rmtree(wanted.folder, ignore_errors=True)  # a run that was killed cannot do it
    frames.close()


def main(line: int) -> None:
    """Lives as long as the run. `line`: the descriptor of its end of the pair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides when it ends
    try:
        asyncio.run(serve(socket.socket(fileno=line)))
    finally:
        sys.stderr.flush()
        os._exit(0)  # no thread of Ray's may keep it
