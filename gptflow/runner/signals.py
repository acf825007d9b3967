"""The signals that end a program, and what they do where there is nothing to drain."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

TYPE_CHECKING = False  # as type checkers read it; this is imported before all else
if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO_S = 0.1
"""What comes again sooner than this is the same wish: timeout(1) signals its child and then the
group that the child is in, and a shell hands on the SIGHUP that its terminal has already sent."""
AGAIN_S = 0.01
"""A signal that was lost comes again so much later, when what has lost it is done."""


class Interrupted(KeyboardInterrupt):
    """A signal has come. Passes through everything, like the one that it is a kind of."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def words(self) -> str:
        """What a person is told: nobody has to be told which one Ctrl-C is."""
        return "interrupted" if self.number == signal.SIGINT else f"interrupted by {self}"

    @property
    def exit_code(self) -> int:
        """As a shell gives it for a process that the signal has ended."""
        return 128 + self.number


class _Raising:
    """Raises the first signal, and raises it again if nobody could have heard it.

    Python drops what is raised inside a `__del__`, a callback of a weak reference or one of the
    garbage collector, and tells it to sys.unraisablehook alone.
    """

    def __init__(self) -> None:
        self.received: Interrupted | None = None
        self.is_lost = False
        self._last_s = 0.0
        self._report = sys.unraisablehook

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handles the signals."""
        del frame
        before_s, self._last_s = self._last_s, time.monotonic()
        if self.received is None:
            self.received = Interrupted(number)
            raise self.received
        if self._last_s - before_s > ECHO_S and number != signal.SIGHUP:
            os._exit(128 + number)

    def hear_loss(self, unraisable: UnraisableHookArgs) -> None:
        """Has a lost signal come again: to raise it here would lose it once more."""
        if isinstance(unraisable.exc_value, Interrupted):
            self.is_lost = True
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            self._report(unraisable)

    def again(self, *_: object) -> None:
        """Handles the alarm that was set for a lost one."""
        if self.is_lost and self.received is not None:
            self.is_lost = False
            raise Interrupted(self.received.number)

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handles the signals meanwhile. One that is lost at the end is raised there."""
        actions: dict[int, Callable[[int, FrameType | None], None]]
        actions = dict.fromkeys(heeded_signals(), self.interrupt)
        actions[signal.SIGALRM] = self.again
        sys.unraisablehook = self.hear_loss
        before = {number: signal.signal(number, action) for number, action in actions.items()}
        try:
            yield
            self.again()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, action in before.items():
                signal.signal(number, action)
            sys.unraisablehook = self._report


_raising: ContextVar[_Raising | None] = ContextVar("_raising", default=None)


def heeded_signals() -> list[signal.Signals]:
    """Those that are not ignored: nohup ignores SIGHUP, and a script's `&` ignores SIGINT.

    Nor are those heeded whose action was set from C, which could not be put back.
    """
    return [n for n in SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)]


def heed_signal() -> Interrupted | None:
    """The first signal that has come inside of raising_signals(), which is not raised again.

    Whoever ends, well or over an error, looks here: what the signal was raised in may have made
    another error of it, or nothing, as pydantic does.
    """
    raising = _raising.get()
    if raising is None:
        return None
    raising.is_lost = False
    return raising.received


@contextmanager
def raising_signals() -> Iterator[None]:
    """Has signals raise Interrupted meanwhile, so that all that is open is closed.

    The second one ends the process at once. That loses nothing: what is stored is safe from any
    end, and outside of a run's calls nothing is under way that was paid. Signals reach a main
    thread alone; in another one this does nothing, nor does it inside of itself.
    """
    if _raising.get() or threading.current_thread() is not threading.main_thread():
        yield
        return
    raising = _Raising()
    token = _raising.set(raising)
    try:
        with raising.handling():
            yield
    finally:
        _raising.reset(token)
