"""Mode `thread`: each worker is a thread with an event loop of its own.

For pipelines with Python hooks that block: one that waits holds up its own loop, and no other.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from gptflow.errors import WorkerFailed
from gptflow.runner.crew.inside import work
from gptflow.runner.crew.mailbox import Mailbox
from gptflow.runner.loop import run_coroutine

GRACE_S = 3.0
"""Seconds that a thread gets to end; one that hangs in a hook ends with the program."""
FILES = 32
"""That must be free for a thread to begin: its loop takes some, and its calls a few more. Where
uvloop finds none for a loop it ends the whole program, with SIGABRT."""


class Threads:
    """Starts worker threads in this process."""

    title = "thread"
    start_s: float | None = 120.0

    def __init__(self) -> None:
        """Nobody is there yet."""
        self._turn = asyncio.Lock()
        """One begins after the other: what is free for one must not go to the next."""

    async def hire(
        self, number: int, on_batch: Callable[[bytes], object], on_lost: Callable[[str], object]
    ) -> ThreadLink:
        """Starts a thread. See link.Mode."""
        async with self._turn:
            link = ThreadLink(on_batch, on_lost)
            try:
                link.start(f"gptflow-worker-{number}")
                await link.begun
            except BaseException:
                await link.close()
                raise
            return link

    async def close(self) -> None:
        """See link.Mode. There is nothing beside the workers."""


class ThreadLink:
    """The run's end of the line to a thread."""

    def __init__(
        self, on_batch: Callable[[bytes], object], on_lost: Callable[[str], object]
    ) -> None:
        """There is no thread yet."""
        self._loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = self._loop.create_future()
        """Resolves when batches can be sent; raises the WorkerFailed why they never can."""
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._closing = False
        self._theirs: asyncio.AbstractEventLoop | None = None
        """The thread's own loop, once it has one."""
        self._mailbox = Mailbox()
        self._ended = asyncio.Event()

    def start(self, name: str) -> None:
        """Starts the thread.

        Raises:
            WorkerFailed: the system does not let it.
        """
        # A daemon, so that a hook that hangs does not keep the program from ending.
        thread = threading.Thread(target=self._live, name=name, daemon=True)
        try:
            _check_files()
            thread.start()
        except (OSError, RuntimeError) as error:
            self._ended.set()
            why = error.strerror if isinstance(error, OSError) else None
            raise _not_started(why or str(error)) from error

    def send(self, batch: bytes) -> None:
        """See link.Link."""
        self._tell(self._mailbox.put, batch)

    async def close(self) -> None:
        """See link.Link."""
        self._closing = True
        self._tell(self._mailbox.end)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._ended.wait()

    def _tell(self, put: Callable[..., None], *batch: bytes) -> None:
        with suppress(RuntimeError):  # its loop has ended
            if self._theirs is not None:
                self._theirs.call_soon_threadsafe(put, *batch)

    def _live(self) -> None:
        """The life of the thread."""
        how = "ended"
        life = self._work()
        try:
            run_coroutine(life)
        except BaseException as error:  # noqa: BLE001  # told to the run, which replaces it
            how = f"ended by {type(error).__name__}: {error}"
        finally:
            life.close()  # where it has not begun
            with suppress(RuntimeError):  # the run has ended
                self._loop.call_soon_threadsafe(self._end, how)

    async def _work(self) -> None:
        self._mailbox.send = self._pass_on
        self._loop.call_soon_threadsafe(self._begin, asyncio.get_running_loop())
        await work(self._mailbox)

    def _pass_on(self, batch: bytes) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_batch, batch)

    def _begin(self, theirs: asyncio.AbstractEventLoop) -> None:
        self._theirs = theirs
        if self._closing:  # nobody waits for it any more
            self._tell(self._mailbox.end)
        if not self.begun.done():
            self.begun.set_result(None)

    def _end(self, how: str) -> None:
        self._ended.set()
        if not self.begun.done():
            self.begun.set_exception(_not_started(how))
        elif not self._closing:
            self._on_lost(how)


def _check_files() -> None:
    """Raises OSError if fewer than FILES are free."""
    with ExitStack() as taken:
        for _ in range(FILES):
            taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))


def _not_started(why: str) -> WorkerFailed:
    return WorkerFailed(
        f"no thread can be started: {why}",
        hint="raise the limits on open files and on processes (ulimit -n, ulimit -u), or take "
        "fewer workers",
    )
