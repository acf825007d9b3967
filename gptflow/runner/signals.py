"""The signals that end a program, and what they do where there is nothing to drain."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO_S = 0.1
"""What comes again sooner than this is the same wish: timeout(1) signals its child and then the
group that the child is in, and a shell hands on the SIGHUP that its terminal has already sent."""


class Interrupted(KeyboardInterrupt):
    """A signal has come. Passes through everything, like the one that it is a kind of."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def heeded_signals() -> list[signal.Signals]:
    """Those that are not ignored: nohup ignores SIGHUP, and a script's `&` ignores SIGINT.

    Nor are those heeded whose action was set from C, which could not be put back.
    """
    return [n for n in SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)]


@contextmanager
def raising_signals() -> Iterator[None]:
    """Has signals raise Interrupted meanwhile, so that all that is open is closed.

    The second one ends the process at once. That loses nothing: what is stored is safe from any
    end, and outside of a run's calls nothing is under way that was paid. Signals reach a main
    thread alone; in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last_s = 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal last_s
        before_s, last_s = last_s, time.monotonic()
        if not before_s:
            raise Interrupted(number)
        if last_s - before_s > ECHO_S and number != signal.SIGHUP:
            os._exit(128 + number)

    before = {number: signal.signal(number, interrupt) for number in heeded_signals()}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
