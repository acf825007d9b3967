"""How many calls a key should have in flight, found by trying: for servers that tell no limits.

More calls at a time bring more throughput until the server is busy; beyond that they only wait
there, or make it slower. The window grows fast while throughput does, and then climbs: it measures
one size after the other, goes to the smallest one that is as good as the best, and looks at its
neighbours now and then. Throughput is calls in flight over their mean latency (Little's law),
which needs fewer answers than counting over time.
"""

from __future__ import annotations

import math

_FIRST = 8
_LARGEST = 1024
_GAIN = 1.15
"""Twice the calls have to bring so much more, or the fast growth ends."""
_STEP = 1.3
"""One size is so much larger than the one before it."""
_AS_GOOD = 0.985
_RISING = 1.02
_FEWEST_ANSWERS = 40
_MEMORY = 0.8
"""What is left of a size's older measurements with each new one."""
_LOOK_EVERY = 6
"""Measurements of the same size after which a neighbour is looked at."""
_STALE = 40
"""Measurements after which what is known of a size is no longer believed."""
_REGROW_S = 20.0
"""How long the size at which a server said that it is overloaded is not tried again."""
_CUT_AGAIN = 0.8


class _Measured:
    """What one size brought."""

    __slots__ = ("calls", "latency_s", "load", "turn")

    def __init__(self) -> None:
        self.calls = self.latency_s = self.load = 0.0
        self.turn = 0

    def add(self, calls: float, latency_s: float, load: float) -> None:
        self.calls = self.calls * _MEMORY + calls
        self.latency_s = self.latency_s * _MEMORY + latency_s
        self.load = self.load * _MEMORY + load

    @property
    def per_s(self) -> float:
        return self.load / self.latency_s if self.latency_s > 0 else math.inf


class Window:
    """The size, and what led to it. Only calls that went while it was full say anything."""

    def __init__(self) -> None:
        self.size = _FIRST
        self._rushes = True
        self._rush: dict[int, _Measured] = {}
        self._sizes: dict[int, _Measured] = {}
        self._turn = 0
        self._same = 0
        self._looked_at: int | None = None
        self._skip = 0
        self._now = _Measured()
        self._ceiling = _LARGEST
        self._ceiling_until = 0.0
        self._cut_at = -math.inf

    def answered(self, now: float, sent_at: float, load_then: int, load: int) -> None:
        """Learns from an answer.

        Args:
            now: seconds.
            sent_at: when the call left.
            load_then: how many were in flight as it left, with it.
            load: how many are in flight now, with it.
        """
        if load < 0.9 * self.size:
            self._skip = max(self._skip, self.size)
            return
        latency_s = now - sent_at
        if self._rushes:
            self._grow_fast(latency_s, load_then)
            return
        if self._skip > 0:
            self._skip -= 1
            return
        measured = self._now
        measured.calls += 1
        measured.latency_s += latency_s
        measured.load += load
        if measured.calls >= max(_FEWEST_ANSWERS, 2 * self.size):
            self._climb(now)

    def overloaded(self, now: float, sent_at: float, load_then: int) -> None:
        """Cuts, after the server refused a call because it is busy: once for a burst."""
        if sent_at < self._cut_at:
            if load_then <= self.size:  # of the same burst, but it would be refused again
                self._limit(now, max(1, load_then - 1))
            return
        self._cut_at = now
        below = load_then - 1 if load_then <= self.size else self.size
        if below >= self._ceiling:  # the size that was thought to be safe is not
            below = int(self._ceiling * _CUT_AGAIN)
        self._limit(now, max(1, below))

    def _limit(self, now: float, size: int) -> None:
        self._rushes = False
        self._ceiling = size
        self._ceiling_until = now + _REGROW_S
        self._set(size)

    def _grow_fast(self, latency_s: float, load_then: int) -> None:
        octave = load_then.bit_length()
        measured = self._rush.setdefault(octave, _Measured())
        measured.calls += 1
        measured.latency_s += latency_s
        measured.load += load_then
        before = self._rush.get(octave - 1)
        enough = measured.calls >= 0.5 * 2 ** (octave - 1)
        if enough and before and measured.per_s < _GAIN * before.per_s:
            self._rushes = False
            worse = measured.per_s < before.per_s
            self._set(2 ** (octave - 1) if worse else round(2 ** (octave - 0.5)))
            return
        self.size = min(self.size + 1, _LARGEST)

    def _set(self, size: int) -> None:
        self.size = min(max(size, 1), self._ceiling, _LARGEST)
        self._skip = self.size
        self._now = _Measured()

    def _climb(self, now: float) -> None:
        """Decides on the next size after one was measured."""
        self._turn += 1
        here = _step_of(self.size)
        known = self._sizes.setdefault(here, _Measured())
        known.add(self._now.calls, self._now.latency_s, self._now.load)
        known.turn = self._turn
        if now >= self._ceiling_until:
            self._ceiling = _LARGEST
        self._set(_size_of(self._next_step(here)))

    def _next_step(self, here: int) -> int:
        fresh = {
            step: measured
            for step, measured in self._sizes.items()
            if self._turn - measured.turn < _STALE
        }
        best = max(measured.per_s for measured in fresh.values())
        good = min(step for step, one in fresh.items() if one.per_s >= _AS_GOOD * best)
        self._same = self._same + 1 if good == here else 0
        below, above = fresh.get(good - 1), fresh.get(good + 1)
        can_grow = _size_of(good + 1) <= self._ceiling
        if (
            above is None
            and can_grow
            and (below is None or fresh[good].per_s > _RISING * below.per_s)
        ):
            return good + 1
        if below is None and _size_of(good) > 1:
            return good - 1
        if self._same >= _LOOK_EVERY:
            self._same = 0
            older = [step for step in (good - 1, good + 1) if step != good + 1 or can_grow]
            return min(older, key=lambda step: fresh[step].turn if step in fresh else -1)
        return good


def _step_of(size: int) -> int:
    return round(math.log(size, _STEP))


def _size_of(step: int) -> int:
    return min(max(1, round(_STEP**step)), _LARGEST)
