"""Runs `gptflow` in this interpreter until a named point, where SIGKILL ends it.

    python tests/faults/killed_at.py 'after sqlite3:Connection.executemany #3' run spec.yaml

A point is `WHEN MODULE:NAME [in MODULE:NAME] [~TEXT] [#N]`. WHEN is before, after or during: as
the function is called, as it comes back, or in a thread of its own a moment after the call, so
that it strikes inside of what C does. `in` names the function that calls it; TEXT stands in the
line of the call, or in a text among the caller's variables. The N-th time counts, the first one if
it is not given. A coroutine comes back each time that it waits.

Nothing inside gptflow knows of this: Python tells a profile function of all calls, those of C
included. A point that is not reached changes nothing; the exit status shows it.
"""

from __future__ import annotations

import importlib
import linecache
import os
import re
import signal
import sys
import threading
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, NoReturn

DURING_S = 0.0002
"""From the call to the kill, where it is to strike inside of it."""
EVENTS = {
    "before": ("call", "c_call"),
    "during": ("call", "c_call"),
    "after": ("return", "c_return"),
}
POINT = re.compile(
    r"(?P<when>before|after|during) (?P<name>\S+:\S+)(?: in (?P<caller>\S+:\S+))?"
    r"(?: ~(?P<text>.+?))?(?: #(?P<count>\d+))?"
)
PRELOADED = ("gptflow.cli.run", "gptflow.engine.engine", "gptflow.runner.runner")
"""Imported before the profile function is set, which slows down all that it sees."""


@dataclass(frozen=True)
class Point:
    """Where a process is to be killed."""

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
        when, name, caller, marked, count = found.groups()
        return cls(when, name, caller, marked, int(count or 1))


class Killer:
    """A profile function that kills its process at a point."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._events = EVENTS[point.when]
        self._last = point.name.rpartition(":")[2].rpartition(".")[2]
        self._left = point.count
        self._names: dict[CodeType, str] = {}
        self._lock = threading.Lock()

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event not in self._events:
            return
        if event in ("c_call", "c_return"):
            if getattr(function, "__name__", "") != self._last:
                return
            name, caller = c_name(function), frame
        else:
            name, caller = self._name(frame), frame.f_back or frame
        if name == self._point.name and self._is_meant(caller):
            self._strike()

    def _name(self, frame: FrameType) -> str:
        code = frame.f_code
        if code not in self._names:
            self._names[code] = f"{frame.f_globals.get('__name__')}:{code.co_qualname}"
        return self._names[code]

    def _is_meant(self, caller: FrameType) -> bool:
        if self._point.caller is not None and self._name(caller) != self._point.caller:
            return False
        text = self._point.text
        if text is None or text in linecache.getline(caller.f_code.co_filename, caller.f_lineno):
            return True
        return any(isinstance(v, str) and text in v for v in caller.f_locals.values())

    def _strike(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left != 0:
                return
        if self._point.when == "during":
            threading.Timer(DURING_S, die).start()
        else:
            die()


def c_name(function: Any) -> str:
    """`posix:fsync` for a function, `sqlite3:Connection.execute` for a method."""
    owner = getattr(function, "__self__", None)
    if owner is None or isinstance(owner, type(sys)):
        return f"{function.__module__}:{function.__name__}"
    return f"{type(owner).__module__}:{function.__qualname__}"


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nothing survives SIGKILL")


def main() -> None:
    from gptflow.cli.main import main as gptflow

    point = Point.parse(sys.argv[1])
    for module in PRELOADED:
        importlib.import_module(module)
    killer = Killer(point)
    threading.setprofile(killer)
    sys.setprofile(killer)
    gptflow(sys.argv[2:])


if __name__ == "__main__":
    main()
