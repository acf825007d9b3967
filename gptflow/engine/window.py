"""How many calls a key should have in flight, found by trying: for servers that tell no limits.

More calls at a time bring more throughput until the server is busy; beyond that they only wait
there, or make it slower. At first the window doubles with every round trip, as long as that pays.
Then it is the smallest size that is about as good as a larger one: one step up or down is measured
now and then, and taken if the difference is more than noise. Throughput is calls in flight over
their mean latency (Little's law), which needs fewer answers than counting over time.
"""

from __future__ import annotations

import math
from bisect import bisect_right

_FIRST = 16
_LARGEST = 1024
_GAIN = 1.07
"""1.4 times the calls have to bring so much more, or the fast growth ends."""
_NEARLY = 0.95
_SLOWER = 1.5
"""Latencies so much longer than the shortest: from here on the window grows with care."""
_CARE = 3
_STEP = 1.25
_WORTH = 0.008
"""A step up has to bring so much more, a step down may cost no more than half of it."""
_CLOSE = 0.02
_FEWEST_IN_RUSH = 6
_FEWEST_ANSWERS = 48
_MEMORY = 0.85
"""What is left of a size's older measurements with each new one."""
_HOLD, _LONGEST_HOLD = 4, 32
"""Measurements of the same size between two looks at its neighbours: twice as many each time."""
_SURE = 0.01
"""A measurement ends early when it is so sure."""
_FAST_GAIN = 0.04
"""After a step up that brought so much the next one is twice as far."""
_CHANGED = 0.05
_BAD, _BAD_AFTER = 0.85, 16
"""A look at another size ends when after so many answers it is so bad."""
_CEILING_S = 60.0
"""How long the size that a server refused is not tried again."""
_CUT_AGAIN = 0.8


class Measured:
    """What one size, or a range of sizes, brought."""

    __slots__ = ("calls", "latency_s", "load", "square")

    def __init__(self) -> None:
        self.calls = self.latency_s = self.square = self.load = 0.0

    def count(self, latency_s: float, load: int) -> None:
        """Adds an answer."""
        self.calls += 1
        self.latency_s += latency_s
        self.square += latency_s * latency_s
        self.load += load

    def add(self, other: Measured) -> None:
        """Adds newer measurements, and forgets some of the old."""
        self.calls = self.calls * _MEMORY + other.calls
        self.latency_s = self.latency_s * _MEMORY + other.latency_s
        self.square = self.square * _MEMORY + other.square
        self.load = self.load * _MEMORY + other.load

    @property
    def per_s(self) -> float:
        """Throughput."""
        return self.load / self.latency_s if self.latency_s > 0 else math.inf

    @property
    def doubt(self) -> float:
        """The standard error of the throughput, as a share of it."""
        if self.calls < 2 or self.latency_s <= 0:
            return 1.0
        mean = self.latency_s / self.calls
        variance = max(self.square / self.calls - mean * mean, 0.0)
        return math.sqrt(variance / self.calls) / mean


class Window:
    """The size, and what led to it. Only calls that went while it was full say anything."""

    def __init__(self) -> None:
        self.size = _FIRST
        self._rushes = True
        self._half_octaves: dict[int, Measured] = {}
        self._shortest_s = math.inf
        self._recent_s = 0.0
        self._spared = 0
        self._steps: dict[int, Measured] = {}
        self._home = 0
        """The step that is held."""
        self._here = 0
        """The step that is measured."""
        self._held = 0
        self._hold = _HOLD
        self._stride = 1
        self._looks_up = True
        self._skip = 0
        self._since = 0.0
        """When the size was changed: calls that left before say nothing about it."""
        self._now = Measured()
        self._ceiling = _LARGEST
        self._ceiling_until = math.inf
        self._cut_at = -math.inf

    def answered(self, now: float, sent_at: float, load_then: int, load: int) -> None:
        """Learns from an answer.

        Args:
            now: seconds.
            sent_at: when the call left.
            load_then: how many were in flight as it left, with it.
            load: how many are in flight now, with it.
        """
        if self._rushes:
            self._rush(now, now - sent_at, load_then, load)
        elif load < 0.9 * self.size:
            self._skip = max(self._skip, self.size)
        elif self._skip > 0:
            self._skip -= 1
        elif sent_at >= self._since:
            self._now.count(now - sent_at, load)
            if self._is_measured():
                self._climb(now)

    def overloaded(self, now: float, sent_at: float, load_then: int) -> None:
        """Cuts, after the server refused a call because it is busy: once for a burst."""
        if sent_at < self._cut_at:
            below = min(self.size, load_then - 1)  # of the same burst
        elif load_then <= self._ceiling < _LARGEST:  # what was thought to be safe is not
            below = int(self.size * _CUT_AGAIN)
        else:
            below = min(self.size, load_then - 1)
        if sent_at >= self._cut_at:
            self._cut_at = now
        self._ceiling = max(below, 1)
        self._ceiling_until = now + _CEILING_S
        self._rushes = False
        self._settle_on(now, self._ceiling)

    def _rush(self, now: float, latency_s: float, load_then: int, load: int) -> None:
        half_octave = round(2 * math.log2(load_then))
        measured = self._half_octaves.setdefault(half_octave, Measured())
        measured.count(latency_s, load_then)
        self._recent_s += (latency_s - self._recent_s) / min(measured.calls + 4, 12)
        if self._is_saturated(half_octave):
            self._rushes = False
            self._settle_on(now, self._cheapest())
            return
        if load < 0.8 * self.size:
            return
        self._spared += 1
        if self._recent_s < _SLOWER * self._shortest_s or self._spared >= _CARE:
            self._spared = 0
            self.size = min(self.size + 1, _LARGEST)

    def _is_saturated(self, half_octave: int) -> bool:
        """Whether the latest calls brought hardly more than those with fewer in flight."""
        measured = self._half_octaves[half_octave]
        if measured.calls < max(_FEWEST_IN_RUSH, 0.15 * measured.load / measured.calls):
            return False
        for distance in (1, 2):
            before = self._half_octaves.get(half_octave - distance)
            if before and before.calls >= _FEWEST_IN_RUSH:
                self._shortest_s = min(self._shortest_s, before.latency_s / before.calls)
                return measured.per_s < _GAIN**distance * before.per_s
        return False

    def _cheapest(self) -> int:
        """The smallest size that brings nearly as much as the best, between those measured."""
        points = sorted(
            (one.load / one.calls, one.per_s)
            for one in self._half_octaves.values()
            if one.calls >= _FEWEST_IN_RUSH
        )
        wanted = _NEARLY * max(per_s for _, per_s in points)
        size, less = 1.0, 0.0
        for load, per_s in points:
            if per_s >= wanted:
                share = (wanted - less) / (per_s - less) if less else 1.0
                return max(1, round(size * math.pow(load / size, share)))
            size, less = load, per_s
        return round(size)

    def _settle_on(self, now: float, size: int) -> None:
        """Makes a size the one to hold."""
        self._home = _step_of(size)
        if _size_of(self._home) < size == self._ceiling:
            self._home += 1
        self._held = 0
        self._go(now, self._home)

    def _go(self, now: float, step: int) -> None:
        size = min(_size_of(step), self._ceiling)
        if size != self.size:
            self._skip = max(size, self.size)
            self._since = now
        self.size = size
        self._here = step
        self._now = Measured()

    def _is_measured(self) -> bool:
        measured = self._now
        if measured.calls >= max(_FEWEST_ANSWERS, 2 * self.size):
            return True
        if measured.calls >= max(self.size, _BAD_AFTER) and measured.doubt < _SURE:
            return True
        home = self._steps.get(self._home)
        if home is None or measured.calls < _BAD_AFTER or self._here == self._home:
            return False
        return measured.per_s < (_BAD - 2 * measured.doubt) * home.per_s

    def _climb(self, now: float) -> None:
        """Decides on the next size, after one was measured."""
        here = self._here
        self._remember(here)
        if now >= self._ceiling_until:
            self._ceiling += max(1, self._ceiling // 20)
            self._ceiling_until = now + _CEILING_S
        if here != self._home:
            self._compare(here)
        else:
            self._held += 1
        up, down = self._home + self._stride, self._home - 1
        can_grow = _size_of(up) <= self._ceiling
        if self._home not in self._steps:
            self._go(now, self._home)
        elif down >= 0 and down not in self._steps:
            self._go(now, down)
        elif up not in self._steps and can_grow:
            self._go(now, up)
        elif self._held >= self._hold:
            self._held = 0
            self._hold = min(2 * self._hold, _LONGEST_HOLD)
            self._looks_up = not self._looks_up
            self._go(now, up if self._looks_up and can_grow else max(down, 0))
        else:
            self._go(now, self._home)

    def _remember(self, step: int) -> None:
        known = self._steps.setdefault(step, Measured())
        if known.calls:
            change = abs(self._now.per_s / known.per_s - 1)
            if change > _CHANGED + 3 * math.hypot(known.doubt, self._now.doubt):
                known = self._steps[step] = Measured()  # the server is not what it was
        known.add(self._now)

    def _compare(self, here: int) -> None:
        """Moves to a neighbour that is better by more than chance."""
        there, home = self._steps[here], self._steps.get(self._home)
        if home is None:
            return
        gain = there.per_s / home.per_s - 1
        doubt = math.hypot(there.doubt, home.doubt)
        if here > self._home:
            moves = gain > _WORTH + doubt / 2
        else:
            moves = gain > doubt or (gain > -_WORTH / 2 and doubt < _CLOSE)
        self._stride = 2 if moves and here > self._home and gain > _FAST_GAIN else 1
        if moves:
            self._home = here
            self._held = 0
            self._hold = _HOLD


def _sizes() -> tuple[int, ...]:
    sizes = [1]
    while sizes[-1] < _LARGEST:
        sizes.append(min(max(sizes[-1] + 1, round(sizes[-1] * _STEP)), _LARGEST))
    return tuple(sizes)


_SIZES = _sizes()


def _step_of(size: int) -> int:
    """The step whose size is nearest below."""
    return bisect_right(_SIZES, max(size, 1)) - 1


def _size_of(step: int) -> int:
    return _SIZES[min(step, len(_SIZES) - 1)]
