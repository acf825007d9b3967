"""One piece of work that a portal does for a caller who waits elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

SIGNAL_DELAY_S = 0.25
"""How long a main thread may not notice a signal that came just before it fell asleep."""


class PortalClosed(Exception):
    """The portal was closed, before the call or while it was under way."""


class PortalCall:
    """The work, and what came of it. `result` and `error` are set before the caller is told."""

    __slots__ = ("error", "result", "task", "work")

    def __init__(self, work: Callable[[Any], Awaitable[Any]]) -> None:
        self.work = work
        self.task: asyncio.Task[None] | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        """Lets the caller go on. Called in the portal's thread."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Ends the work, for a caller who has gone. Called in the portal's loop."""
        if self.task:
            self.task.cancel()

    def outcome(self) -> Any:
        """The result, or its error raised, in the caller's thread."""
        error, self.error = self.error, None
        if error is None:
            return self.result
        try:
            if isinstance(error, asyncio.CancelledError):
                raise PortalClosed from None
            raise error
        finally:
            del error  # or it would keep the caller's frames alive, in a cycle with its traceback


class BlockingCall(PortalCall):
    """A call whose thread waits at a gate."""

    __slots__ = ("gate",)

    def __init__(self, work: Callable[[Any], Awaitable[Any]]) -> None:
        super().__init__(work)
        self.gate = threading.Lock()
        self.gate.acquire()

    def tell(self) -> None:
        """Opens the gate."""
        self.gate.release()

    def wait(self) -> None:
        """Returns once the caller may go on; raises what a signal's handler raises."""
        if threading.current_thread() is not threading.main_thread():
            self.gate.acquire()
            return
        # A signal that comes just before the thread falls asleep does not wake it: so look again.
        while not self.gate.acquire(timeout=SIGNAL_DELAY_S):
            pass


class AwaitedCall(PortalCall):
    """A call whose task waits in another loop, for `told`."""

    __slots__ = ("_loop", "told")

    def __init__(self, work: Callable[[Any], Awaitable[Any]]) -> None:
        super().__init__(work)
        self._loop = asyncio.get_running_loop()
        self.told: asyncio.Future[None] = self._loop.create_future()

    def tell(self) -> None:
        """Wakes the task."""
        with contextlib.suppress(RuntimeError):  # the caller's loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.told.done():
            self.told.set_result(None)
