"""Where the engine takes time and chance from; tests bring their own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


def asleep_s() -> float:
    """Seconds that the machine has slept since it was started; 0 where nobody counts them."""
    if not hasattr(time, "CLOCK_BOOTTIME"):  # on macOS and Windows `time.monotonic` counts them
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance. All five are functions, so that an hour of waiting is a quick test."""

    now: Callable[[], float] = time.monotonic
    """Seconds that never jump: everything is timed by it. On Linux they stand still while the
    machine sleeps."""
    asleep: Callable[[], float] = asleep_s
    """Seconds that `now` has missed so far, since the machine slept."""
    wall: Callable[[], float] = time.time
    """Seconds since 1970, only to understand dates that servers send."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    """A number from 0 up to but not including 1."""
