"""Ctrl-C and its kin: once is a wish to end well, twice is an order to end now."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DRAIN_S = 30.0
"""Seconds that the calls in flight get to come back, after the first signal."""


class Interruption:
    """Turns signals into a drain, then a halt. A wait of DRAIN_S is a second signal."""

    def __init__(self, drain: Callable[[], None], halt: Callable[[], object]) -> None:
        """`drain`: take no further row; `halt`: end now. Both are called on the event loop."""
        self._drain = drain
        self._halt = halt
        self._deadline: asyncio.TimerHandle | None = None
        self.signal: int | None = None
        """The first signal that came."""

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Drains the first time, halts the second."""
        if self.signal is not None:
            self._halt()
            return
        self.signal = number
        self._drain()
        self._deadline = asyncio.get_running_loop().call_later(DRAIN_S, self._halt)

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handles the signals meanwhile. Only a main thread can; others leave them alone."""
        loop = asyncio.get_running_loop()
        is_main = threading.current_thread() is threading.main_thread()
        for number in SIGNALS if is_main else ():
            loop.add_signal_handler(number, self.interrupt, number)
        try:
            yield
        finally:
            for number in SIGNALS if is_main else ():
                loop.remove_signal_handler(number)
            if self._deadline is not None:
                self._deadline.cancel()
