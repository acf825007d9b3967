"""Mode `thread`: each worker is a thread with an event loop of its own.

For pipelines with Python hooks that block: one that waits holds up its own loop, and no other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from gptflow.runner.crew.inside import work
from gptflow.runner.crew.mailbox import Mailbox
from gptflow.runner.loop import run_coroutine

GRACE_S = 3.0
"""Seconds that a thread gets to end; one that hangs in a hook ends with the program."""


class Threads:
    """Starts worker threads in this process."""

    title = "thread"

    async def hire(
        self, number: int, on_batch: Callable[[bytes], object], on_lost: Callable[[str], object]
    ) -> ThreadLink:
        """Starts a thread. See link.Mode."""
        link = ThreadLink(number, on_batch, on_lost)
        await link.begun
        return link

    async def close(self) -> None:
        """See link.Mode. There is nothing beside the workers."""


class ThreadLink:
    """The run's end of the line to a thread."""

    def __init__(
        self, number: int, on_batch: Callable[[bytes], object], on_lost: Callable[[str], object]
    ) -> None:
        """Starts the thread."""
        self._loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = self._loop.create_future()
        """Resolves when batches can be sent."""
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._closing = False
        self._theirs: asyncio.AbstractEventLoop
        self._mailbox: Mailbox
        self._ended = asyncio.Event()
        # A daemon, so that a hook that hangs does not keep the program from ending.
        thread = threading.Thread(target=self._live, name=f"gptflow-worker-{number}", daemon=True)
        thread.start()

    def send(self, batch: bytes) -> None:
        """See link.Link."""
        with suppress(RuntimeError):  # its loop has ended
            self._theirs.call_soon_threadsafe(self._mailbox.put, batch)

    async def close(self) -> None:
        """See link.Link."""
        self._closing = True
        with suppress(RuntimeError):
            self._theirs.call_soon_threadsafe(self._mailbox.end)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._ended.wait()

    def _live(self) -> None:
        """The life of the thread."""
        how = "ended"
        try:
            run_coroutine(self._work())
        except BaseException as error:  # noqa: BLE001  # told to the run, which replaces it
            how = f"ended by {type(error).__name__}: {error}"
        finally:
            with suppress(RuntimeError):  # the run has ended
                self._loop.call_soon_threadsafe(self._end, how)

    async def _work(self) -> None:
        self._theirs = asyncio.get_running_loop()
        self._mailbox = Mailbox()
        self._mailbox.send = self._pass_on
        self._loop.call_soon_threadsafe(self._begin)
        await work(self._mailbox)

    def _pass_on(self, batch: bytes) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_batch, batch)

    def _begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def _end(self, how: str) -> None:
        self._ended.set()
        self._begin()
        if not self._closing:
            self._on_lost(how)
