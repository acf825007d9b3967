"""Lark's limits for one bot: 5 messages a second and 100 a minute."""

from __future__ import annotations

import os
import threading
from collections import deque

PER_SECOND = 5
PER_MINUTE = 100
_SPARE_S = 0.05
"""A message may be longer on its way than the one after it."""


class Pace:
    """When the next message may go. The clock is passed in."""

    def __init__(self) -> None:
        self._slots: deque[float] = deque(maxlen=PER_MINUTE)
        self._turn = threading.Lock()

    def take(self, now: float) -> float:
        """Takes the next free slot; the seconds until it. Each caller gets another one."""
        with self._turn:
            slot = self._next(now)
            self._slots.append(slot)
        return slot - now

    def wait_s(self, now: float) -> float:
        """The seconds until the next free slot, which is not taken."""
        with self._turn:
            return self._next(now) - now

    def _next(self, now: float) -> float:
        slots, slot = self._slots, now
        if len(slots) >= PER_SECOND:
            slot = max(slot, slots[-PER_SECOND] + 1 + _SPARE_S)
        if len(slots) == PER_MINUTE:
            slot = max(slot, slots[0] + 60 + _SPARE_S)
        return max(slot, slots[-1]) if slots else slot


_PACES: dict[tuple[int, str], Pace] = {}


def pace_of(fingerprint: str) -> Pace:
    """The pace of one hook, shared by all bots and threads of this process.

    By process, since a lock that another thread held at a fork stays locked in the child.
    """
    return _PACES.setdefault((os.getpid(), fingerprint), Pace())
