"""Ctrl-C and its kin: once is a wish to end well, twice is an order to end now."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gptflow.runner.signals import ECHO_S, heed_signal, heeded_signals

DRAIN_S = 30.0
"""Seconds that the calls in flight get to come back, after the first signal."""


class Interruption:
    """Turns signals into a drain, then a halt. A wait of DRAIN_S is a second signal."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The first signal that came."""
        self._last: tuple[int, float] = (0, 0.0)
        """The latest one, and when it came by the loop's clock."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: Callable[[], None] = lambda: None
        self._halt: Callable[[], object] = lambda: None
        self._deadline: asyncio.TimerHandle | None = None

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Drains the first time, halts the second. Called on the event loop.

        Neither an echo nor another SIGHUP halts: a terminal that is gone is gone once, however
        many tell of it, and the answers on the wire are paid.
        """
        loop = asyncio.get_running_loop()
        (last, last_s), self._last = self._last, (number, loop.time())
        if self.signal is None:
            self.signal = number
            self._drain()
            self._deadline = loop.call_later(DRAIN_S, self._halt)
        elif number != signal.SIGHUP and (number != last or loop.time() - last_s > ECHO_S):
            self._halt()

    def interrupt_from_outside(self) -> None:
        """The same from another thread: a notebook's Ctrl-C does not reach the run's own."""
        if self._loop is None:
            self.signal = self.signal or signal.SIGINT
        else:
            self._loop.call_soon_threadsafe(self.interrupt)

    @contextmanager
    def handling(self, drain: Callable[[], None], halt: Callable[[], object]) -> Iterator[None]:
        """Handles the signals meanwhile. Only a main thread can; others leave them alone.

        A signal that the process was started to ignore stays ignored. One that came before halts
        at once, also where it was raised and nobody has heard it.

        `drain`: take no further row; `halt`: end now. Both are called on the event loop.
        """
        self._drain, self._halt = drain, halt
        self._loop = loop = asyncio.get_running_loop()
        earlier = heed_signal()
        if self.signal is None and earlier is not None:
            self.signal = earlier.number
        if self.signal is not None:  # it came before there was anything to interrupt
            halt()
        is_main = threading.current_thread() is threading.main_thread()
        heeded = heeded_signals() if is_main else []
        before = {number: signal.getsignal(number) for number in heeded}
        for number in before:
            loop.add_signal_handler(number, self.interrupt, number)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
            self._loop = None
            if self._deadline is not None:
                self._deadline.cancel()
