"""A way into an event loop that lives in a thread of its own, from any thread and any other loop.

One wrapper has one portal: all its calls, whoever makes them, share one engine and its connections.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

_LONGEST_END_S = 5.0
"""What an ending interpreter waits for the thread: its connections close at once, or never."""


class PortalClosed(Exception):
    """The portal was closed, before the call or while it was under way."""


class Portal(Generic[S]):
    """A service of an event loop, such as an engine, for callers outside of that loop.

    The thread starts with the first call. It is a daemon, and ends with `close`, with `let_go`, or
    with the interpreter; what is in flight then is cancelled. A portal belongs to the process that
    made it: after a fork the thread is not there, so the child needs a portal of its own.
    """

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        """Build a portal; nothing is started.

        Args:
            enter: makes the service. It is entered and left in the portal's loop.
        """
        self._enter = enter
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._up = threading.Event()
        self._start_error: BaseException | None = None
        self._calls: set[_Call] = set()
        self._closed = False
        self._exiting = False

    def run(self, work: Callable[[S], Awaitable[T]]) -> T:
        """Has `work` done in the portal's loop, and blocks until it is.

        A Ctrl-C, or whatever else is raised in this thread meanwhile, cancels it.

        Raises:
            PortalClosed: the portal was closed, before or meanwhile.
        """
        call = _BlockingCall(work)
        try:
            self._begin(call)
            call.gate.acquire()
        except BaseException:
            self._cancel(call)
            raise
        return call.outcome()

    async def arun(self, work: Callable[[S], Awaitable[T]]) -> T:
        """As `run`, for callers that stand in an event loop, whichever it is."""
        call = _AwaitedCall(work)
        if self._thread is None:  # the thread takes some milliseconds to start
            await asyncio.to_thread(self._start)
        try:
            self._begin(call)
            await call.told
        except BaseException:
            self._cancel(call)
            raise
        return call.outcome()

    def let_go(self) -> None:
        """Ends the thread soon, without waiting for it: safe wherever garbage is collected."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        if self._thread is not None and self._up.is_set():
            self._post(self._end.set)

    def close(self) -> None:
        """Cancels what is in flight, ends the thread, and waits until it has."""
        self.let_go()
        thread = self._thread
        if thread and self._pid == os.getpid() and thread is not threading.current_thread():
            thread.join()

    def _begin(self, call: _Call) -> None:
        if self._thread is None:
            self._start()
        # Before the question whether it is closed: the thread answers all that it finds at its end.
        self._calls.add(call)
        if self._closed or not self._post(self._do, call):
            self._calls.discard(call)
            raise PortalClosed

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._live, name="gptflow", daemon=True)
                thread.start()
                self._up.wait()
                if self._start_error is None:
                    self._thread = thread
        if self._start_error is not None:
            raise self._start_error

    def _post(self, *work: Any) -> bool:
        """Has a function called in the loop; False if the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(*work)
        except RuntimeError:
            return False
        return True

    def _do(self, call: _Call) -> None:
        call.task = self._loop.create_task(self._done(call))

    async def _done(self, call: _Call) -> None:
        try:
            call.result = await call.work(self._service)
        except BaseException as error:  # noqa: BLE001  # carried over to the caller
            call.error = error
        self._calls.discard(call)
        call.tell()

    def _cancel(self, call: _Call) -> None:
        if self._thread is not None:
            self._post(call.cancel)

    def _live(self) -> None:
        """The thread: the loop from its beginning to its end."""
        atexit.register(self._leave_with_interpreter)
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # of the service's making
            self._start_error = error
        finally:
            self._closed = True
            self._up.set()
            if not self._exiting:
                atexit.unregister(self._leave_with_interpreter)
                self._answer_the_rest()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with self._enter() as service:
            self._service = service
            self._up.set()
            await self._end.wait()
            tasks = [call.task for call in list(self._calls) if call.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _answer_the_rest(self) -> None:
        """Lets no caller wait for a thread that is gone."""
        while self._calls:
            call = self._calls.pop()
            call.error = PortalClosed()
            call.tell()

    def _leave_with_interpreter(self) -> None:
        """Ends the thread. Whoever still waits is a daemon thread, and ends without a word."""
        if self._pid != os.getpid():
            return
        self._exiting = True
        self.let_go()
        if self._thread:
            self._thread.join(_LONGEST_END_S)


class _Call:
    """One piece of work with what came of it."""

    __slots__ = ("error", "result", "task", "work")

    def __init__(self, work: Callable[[Any], Awaitable[Any]]) -> None:
        self.work = work
        self.task: asyncio.Task[None] | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        """Lets the caller go on."""
        raise NotImplementedError

    def cancel(self) -> None:
        if self.task:
            self.task.cancel()

    def outcome(self) -> Any:
        error = self.error
        if error is None:
            return self.result
        if isinstance(error, asyncio.CancelledError):
            raise PortalClosed from None
        self.error = None
        try:
            raise error
        finally:
            del error  # a cycle with its traceback would keep the caller's frames alive


class _BlockingCall(_Call):
    """A call whose thread waits at a gate."""

    __slots__ = ("gate",)

    def __init__(self, work: Callable[[Any], Awaitable[Any]]) -> None:
        super().__init__(work)
        self.gate = threading.Lock()
        self.gate.acquire()

    def tell(self) -> None:
        self.gate.release()


class _AwaitedCall(_Call):
    """A call whose task waits in another loop."""

    __slots__ = ("_loop", "told")

    def __init__(self, work: Callable[[Any], Awaitable[Any]]) -> None:
        super().__init__(work)
        self._loop = asyncio.get_running_loop()
        self.told: asyncio.Future[None] = self._loop.create_future()

    def tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.told.done():
            self.told.set_result(None)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # Windows has no uvloop
        return asyncio.new_event_loop
    return uvloop.new_event_loop
