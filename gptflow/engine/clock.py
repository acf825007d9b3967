"""Where the engine takes time and chance from; tests bring their own."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance. All four are functions, so that an hour of waiting is a quick test."""

    now: Callable[[], float] = time.monotonic
    """Seconds that never jump: everything is timed by it."""
    wall: Callable[[], float] = time.time
    """Seconds since 1970, only to understand dates that servers send."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    """A number from 0 up to but not including 1."""
