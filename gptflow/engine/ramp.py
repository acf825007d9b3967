"""How the calls in flight of a key grow at first, until more of them bring hardly more.

Latencies that stay as they were at half the size prove that nothing waits yet: then the size
doubles, as soon as some calls have come back. Where more calls make all slower, a larger size is
measured first. Answers that come first are the quick ones: so either first answers are compared
with first answers, or so many are let go by that those which count are of every kind.
"""

from __future__ import annotations

import math

from gptflow.engine.measured import Measured

FIRST = 16
"""Its account lets in four, then twelve: so many are measured before the first growth."""
LARGEST = 1024
_ALONE = 4
"""With so few in flight latencies are the shortest. An account begins with as many."""
_FEWEST = 6
_NEAR = 0.75
"""Calls that left with so much of the size in flight tell about it."""
_GLIMPSE = 0.3
"""What part of a size comes back before it is compared. Less doubles upon noise."""
_ALL, _HALF = 0.8, 0.5
"""So much of the calls added has to be gained to double, or to grow with care, at a glimpse."""
_FIRST_FACTOR, _DOUBLE, _CAREFUL = 2.25, 2.0, 1.4
_HARDLY = 0.07
"""Growth ends where less of the calls added is gained: 1.4 times the calls bring under 2.4 %."""
_LET_GO = 3.0
"""Times the spread of the latencies, in sizes: the slow calls of a size are back by then too."""
_SURE = 0.05
"""How well throughput is known, as a share of it, before growth may end."""
_FEWEST_IN_DOUBT = 24
_LOSS, _DOUBTS = 0.05, 1.5
"""Growth ends at once where throughput fell by more than this, and by so many standard errors."""
_NEARLY = 0.97
"""Of sizes that bring so much of the most, the smallest is kept: the rest is found by looking."""
_FULL = 0.8


class Ramp:
    """The size as it grows, and what calls brought by how many were in flight as they left."""

    def __init__(self) -> None:
        self.size = FIRST
        self._half_octaves: dict[int, Measured] = {}
        self._from = _ALONE + 1.0
        """Calls that left with fewer in flight say nothing about this size."""
        self._here = Measured()
        self._steady = Measured()
        self._glimpse: Measured | None = None
        """The first answers at the size before: these are compared with the first at this one."""
        self._glimpsed = False

    @property
    def shortest_s(self) -> float:
        """The latency where nothing waits, rather too short than too long; 0 if unknown."""
        known = (one.mean_s * (1 - one.doubt / 2) for one in self._known())
        return min(known, default=0.0)

    def answered(self, latency_s: float, load_then: int, load: int) -> int | None:
        """Learns from an answer. Returns the size to keep, once growing more does not pay."""
        half_octave = max(round(2 * math.log2(load_then)), round(2 * math.log2(_ALONE)))
        self._half_octaves.setdefault(half_octave, Measured()).count(latency_s, load_then)
        if load_then < self._from:
            return None
        self._here.count(latency_s, load_then)
        before = self._before()
        if before is None or self._here.calls < _FEWEST:
            return None
        loss = -self._here.gain_over(before) - _DOUBTS * self._here.doubt_with(before)
        if loss > _LOSS:
            return self._cheapest()
        if load < _FULL * self.size and self.size > FIRST:
            return None
        return self._judge(before, latency_s, load_then)

    def _judge(self, before: Measured, latency_s: float, load_then: int) -> int | None:
        if not self._glimpsed and self._here.calls >= _GLIMPSE * self.size:
            factor = self._at_a_glimpse(before)
            if factor > 1:
                return self._grow(factor)
        spread = self._spread()
        if self._here.calls > max(_FEWEST_IN_DOUBT / 2, _LET_GO * spread * self.size):
            self._steady.count(latency_s, load_then)
            return self._weigh(before, spread)
        return None

    def _at_a_glimpse(self, before: Measured) -> float:
        """How many times larger the size may be, as far as the first answers can tell."""
        first, self._glimpsed = self._glimpse or before, True
        self._glimpse = self._here.copy()
        pays = self._here.gain_over(first) / self._here.apart_from(first)
        if pays > _ALL:
            return _FIRST_FACTOR if self.size == FIRST else _DOUBLE
        return _CAREFUL if pays > _HALF else 1.0

    def _weigh(self, before: Measured, spread: float) -> int | None:
        steady = self._steady
        enough = max(_FEWEST_IN_DOUBT, self.size / 2, (spread / _SURE) ** 2)
        if steady.calls < enough:
            return None
        more = steady.gain_over(before) - _HARDLY * steady.apart_from(before)
        doubt = steady.doubt_with(before) / 2
        if more > doubt or (more > 0 and steady.calls >= 2 * enough):
            return self._grow(_CAREFUL)
        if more < -doubt or steady.calls >= 2 * enough:
            return self._cheapest()
        return None

    def _grow(self, factor: float) -> int | None:
        if self.size >= LARGEST:
            return self._cheapest()
        self.size = min(round(self.size * factor), LARGEST)
        self._from = _NEAR * self.size
        self._here, self._steady = Measured(), Measured()
        self._glimpsed = False
        return None

    def _known(self) -> list[Measured]:
        return [one for one in self._half_octaves.values() if one.calls >= _ALONE]

    def _spread(self) -> float:
        """The standard deviation of latencies, as a share of them."""
        known = self._known()
        calls = sum(one.calls for one in known)
        return math.sqrt(sum((one.calls * one.doubt) ** 2 for one in known) / calls)

    def _before(self) -> Measured | None:
        """The largest load measured that is clearly smaller than this one."""
        below = _NEAR * self._here.mean_load
        known = [one for one in self._known() if one.mean_load < below]
        return max(known, key=lambda one: one.mean_load, default=None)

    def _cheapest(self) -> int:
        """The smallest size that brings nearly as much as the best, between those measured."""
        points = sorted((one.mean_load, one.per_s * (1 - one.doubt)) for one in self._known())
        wanted = _NEARLY * max(per_s for _, per_s in points)
        size, less = 1.0, 0.0
        for load, per_s in points:
            if per_s >= wanted:
                share = (wanted - less) / (per_s - less) if less else 1.0
                needed = min(load, wanted * self.shortest_s)  # fewer cannot bring as much
                return max(1, round(max(size * math.pow(load / size, share), needed)))
            size, less = load, per_s
        return round(size)
