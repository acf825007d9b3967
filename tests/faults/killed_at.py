"""Runs `gptflow` in this interpreter until a named point, where a signal ends it.

    python tests/faults/killed_at.py 'after sqlite3:Connection.executemany #3' run spec.yaml

A point is `[SIGNAL] WHEN MODULE:NAME [in MODULE:NAME] [~TEXT] [#N]`. The signal is SIGKILL if none
is given. WHEN is before, after or during: as the function is called, as it comes back, or in a
thread of its own a moment after the call, so that it strikes inside of what C does. `in` names the
function that calls it; TEXT stands in the line of the call, or in a text among the caller's
variables. The N-th time counts, the first one if it is not given. A coroutine comes back each time
that it waits.

Nothing inside gptflow knows of this: Python tells a profile function of all calls, those of C
included. A point that is not reached changes nothing; the exit status shows it.
"""

from __future__ import annotations

import functools
import importlib
import linecache
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

DURING_S = 0.0002
"""From the call to the kill, where it is to strike inside of it."""
EVENTS = {
    "before": ("call", "c_call"),
    "during": ("call", "c_call"),
    "after": ("return", "c_return"),
}
"""Of Python's own functions, and of those of C."""
POINT = re.compile(
    r"(?:(SIG[A-Z]+) )?(before|after|during) (\S+:\S+)(?: in (\S+:\S+))?"
    r"(?: ~(.+?))?(?: #(\d+))?"
)
PRELOADED = ("gptflow.cli.run", "gptflow.engine.engine", "gptflow.runner.runner")
"""Imported before the profile function is set, which slows down all that it sees."""


@dataclass(frozen=True)
class Point:
    """Where a process is to be killed."""

    signal: signal.Signals
    when: str
    name: str
    caller: str | None
    text: str | None
    count: int

    @classmethod
    def parse(cls, text: str) -> Point:
        found = POINT.fullmatch(text)
        if found is None:
            sys.exit(f"no point: {text!r}")
        sent, when, name, caller, marked, count = found.groups()
        return cls(signal.Signals[sent or "SIGKILL"], when, name, caller, marked, int(count or 1))


Profile = Callable[[FrameType, str, Any], None]


def killer(point: Point) -> Profile:
    """A profile function that kills its process at a point. It is quick: it hears of each call."""
    python_event, c_event = EVENTS[point.when]
    is_reached = Countdown(point)
    code, last = code_of(point.name), point.name.rpartition(":")[2].rpartition(".")[2]

    def at_python(frame: FrameType, event: str, _: Any) -> None:
        if frame.f_code is code and event == python_event and is_reached(frame.f_back or frame):
            strike(point)

    def at_c(frame: FrameType, event: str, function: Any) -> None:
        if event == c_event and function.__name__ == last:  # noqa: SIM102  # most calls end here
            if c_name(function) == point.name and is_reached(frame):
                strike(point)

    return at_c if code is None else at_python


def code_of(name: str) -> CodeType | None:
    """The code of a Python function; None for one of C. AttributeError if there is none."""
    module, _, path = name.partition(":")
    function = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    return getattr(function, "__code__", None)


class Countdown:
    """Whether a call is the one that is meant, and has come so often."""

    def __init__(self, point: Point) -> None:
        self._caller = None if point.caller is None else code_of(point.caller)
        self._text = point.text
        self._left = point.count
        self._lock = threading.Lock()

    def __call__(self, caller: FrameType) -> bool:
        if self._caller not in (None, caller.f_code) or not self._is_marked(caller):
            return False
        with self._lock:
            self._left -= 1
            return self._left == 0

    def _is_marked(self, caller: FrameType) -> bool:
        text = self._text
        if text is None or text in linecache.getline(caller.f_code.co_filename, caller.f_lineno):
            return True
        return any(isinstance(v, str) and text in v for v in caller.f_locals.values())


def strike(point: Point) -> None:
    def send() -> None:
        os.kill(os.getpid(), point.signal)

    if point.when == "during":
        threading.Timer(DURING_S, send).start()
    else:
        send()


def c_name(function: Any) -> str:
    """`posix:fsync` for a function, `sqlite3:Connection.execute` for a method."""
    owner = getattr(function, "__self__", None)
    if owner is None or isinstance(owner, type(sys)):
        return f"{function.__module__}:{function.__name__}"
    return f"{type(owner).__module__}:{function.__qualname__}"


def main() -> None:
    from gptflow.cli.main import main as gptflow

    point = Point.parse(sys.argv[1])
    for module in PRELOADED:
        importlib.import_module(module)
    profile = killer(point)
    threading.setprofile(profile)
    sys.setprofile(profile)
    gptflow(sys.argv[2:])


if __name__ == "__main__":
    main()
