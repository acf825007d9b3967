"""A way into an event loop that lives in a thread of its own, from any thread and any other loop.

All calls of a wrapper go through one portal, whoever makes them: they share one engine and its
connections.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

from gptflow.engine.event_loop import loop_factory
from gptflow.wrapper.portal_call import AwaitedCall, BlockingCall, PortalCall, PortalClosed

S = TypeVar("S")
T = TypeVar("T")

_LONGEST_END_S = 5.0
"""How long an ending interpreter waits for the thread, whose connections close at once or never."""


class Portal(Generic[S]):
    """A service of an event loop, such as an engine, for callers outside of that loop.

    The thread starts with the first call. It is a daemon, and ends with `close`, with `let_go`, or
    with the interpreter; what is in flight then is cancelled. A portal belongs to the process that
    made it: after a fork its thread is not there, so the child needs a portal of its own.
    """

    _loop: asyncio.AbstractEventLoop
    _service: S

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        """Build a portal; nothing is started.

        Args:
            enter: makes the service. It is called, entered and left in the portal's loop.
        """
        self._enter = enter
        self._new_loop = loop_factory()  # not later: an ending interpreter loads nothing any more
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._up = threading.Event()
        self._end = asyncio.Event()
        self._start_error: BaseException | None = None
        self._calls: set[PortalCall] = set()
        self._is_closed = False
        self._is_exit = False

    def run(self, work: Callable[[S], Awaitable[T]]) -> T:
        """Has `work` done in the portal's loop, and blocks until it is.

        Whatever is raised in the caller's thread meanwhile, such as a Ctrl-C, cancels it.

        Raises:
            PortalClosed: the portal was closed, before or meanwhile.
        """
        call = BlockingCall(work)
        try:
            self._begin(call)
            call.wait()
        except BaseException:
            self._cancel(call)
            raise
        result: T = call.outcome()
        return result

    async def arun(self, work: Callable[[S], Awaitable[T]]) -> T:
        """As `run`, for callers that stand in an event loop, whichever it is."""
        if not self._up.is_set():  # a thread takes some milliseconds to start
            await asyncio.to_thread(self._start)
        call = AwaitedCall(work)
        try:
            self._begin(call)
            await call.told
        except BaseException:
            self._cancel(call)
            raise
        result: T = call.outcome()
        return result

    def let_go(self) -> None:
        """Ends the thread soon, and waits for nothing: safe wherever garbage is collected."""
        if self._pid == os.getpid():
            self._is_closed = True
            if self._up.is_set():
                self._post(self._end.set)

    def close(self) -> None:
        """Cancels what is in flight, ends the thread, and waits until it has."""
        self.let_go()
        if self._thread and self._pid == os.getpid():
            self._thread.join()

    def _begin(self, call: PortalCall) -> None:
        if not self._up.is_set():
            self._start()
        # First this, then the question: the thread answers all calls that it finds at its end.
        self._calls.add(call)
        if self._is_closed or not self._post(self._do, call):
            raise self._start_error or PortalClosed

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._live, name="gptflow", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter is at its end, or the machine is
                    self._thread = None
                    raise
        if self._thread:
            self._up.wait()

    def _post(self, *work: Any) -> bool:
        """Has a function called in the loop; False if the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(*work)
        except (AttributeError, RuntimeError):  # the loop never began, or is closed
            return False
        return True

    def _do(self, call: PortalCall) -> None:
        call.task = self._loop.create_task(self._done(call))

    async def _done(self, call: PortalCall) -> None:
        try:
            call.result = await call.work(self._service)
        except BaseException as error:  # noqa: BLE001  # carried over to the caller
            call.error = error
        self._calls.discard(call)
        if not self._is_exit:
            call.tell()

    def _cancel(self, call: PortalCall) -> None:
        self._calls.discard(call)
        self._post(call.cancel)

    def _live(self) -> None:
        """The thread: the loop from its beginning to its end."""
        try:
            atexit.register(self._leave_with_interpreter)
            with asyncio.Runner(loop_factory=self._new_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # told to whoever calls
            self._start_error = error
        self._is_closed = True
        self._up.set()
        if not self._is_exit:
            atexit.unregister(self._leave_with_interpreter)
            with suppress(KeyError):  # there is none left: a caller may leave between any two lines
                while True:
                    call = self._calls.pop()
                    call.error = PortalClosed()
                    call.tell()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._enter() as self._service:
            self._up.set()
            if self._is_closed:
                return
            await self._end.wait()
            tasks = [call.task for call in list(self._calls) if call.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _leave_with_interpreter(self) -> None:
        """Ends the thread. Whoever waits still is a daemon thread, and is to end without a word."""
        if self._pid == os.getpid():
            self._is_exit = True
            self.let_go()
            if self._thread:
                self._thread.join(_LONGEST_END_S)
