"""Waits between two tries: twice as long each time, and cut short when nobody shall try again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gptflow.engine.clock import Clock

_MOST_DOUBLINGS = 64
"""More than any wait needs. A float bursts after 1,023, which a key that rests for days can see."""


class Backoff:
    """The waits of all calls that are to be tried again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waits: set[asyncio.Timeout] = set()
        self._ended = False

    async def wait(self, wait_s: float) -> None:
        """Returns after so many seconds, or once `end` has been called."""
        if self._ended:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                try:
                    await self._clock.sleep(wait_s)
                finally:
                    self._waits.discard(wait)

    def end(self) -> None:
        """Ends all waits, and those that would begin later."""
        self._ended = True
        while self._waits:
            self._waits.pop().reschedule(0)


def doubled(first_s: float, times: int, longest_s: float) -> float:
    """`first_s` doubled so many times, but at most `longest_s`."""
    return min(first_s * 2.0 ** min(times, _MOST_DOUBLINGS), longest_s)
