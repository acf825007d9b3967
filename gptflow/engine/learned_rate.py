"""The rate of an account whose server tells none: learned from its refusals alone.

Nobody but a refusal says where the limit is, so calls go a little faster all the time: quickly up
to what was refused the last time, slowly across it, and quicker again the longer nothing happens.
What was admitted between two refusals, over all that time, is less than the limit or as much: it
holds the rest too, in which a small bucket overflows. So no cut goes below the best of those.
"""

from __future__ import annotations

import math
from collections import deque

_FEWEST = 8
"""Fewer calls tell nothing of a rate."""
_SHORTEST_S = 0.3
"""Nor does a shorter time."""
_BLIND_PER_S = 5.0
"""The rate to begin with where the first few calls were too many, and nothing answered yet."""
_CUT, _DEEP_CUT = 0.92, 0.5
"""What is left of the rate after a refusal, and after one at once, which says: far too fast."""
_SAFE = 0.97
"""Of what was surely admitted so much goes again: a bucket that was used up fills a little."""
_NEAR = 0.97
"""From this share of the ceiling on the rate grows slowly."""
_SEARCH_PER_S = 1.0
"""By how much the rate grows in a second as long as no ceiling was measured."""
_FAST_PER_S = 0.1
"""The same below a ceiling."""
_SLOW_PER_S = 0.003
"""The same across it, where the server asks for no rest."""
_REST_WEIGHT = 1.0
"""How much more slowly, for each second of rest that a refusal costs."""
_CALM_S = 15.0
"""After so long without a refusal it grows at twice the speed, after double the time thrice."""
_MEASURED = 1.02
"""The ceiling is no more than what went on average before the refusal, with this much of grace."""
_AGREES = 0.05
_TOO_MANY = 2.0
"""Calls above the limit that lead to a refusal, at the least: the smallest bucket holds some."""
_MAYBE = 1.5
"""The ceiling where the server may save up what a rest leaves, or lose it, by what went between two
refusals: the limit is that, or more."""
_AGREES, _GRACE = 0.05, 1.06
"""Two such rates that differ by less are the limit. Then the ceiling is just above."""
_MOSTLY = 0.8
"""A server saves up a rest, if it held such a share of what flows in meanwhile at the first."""
_SHORT_REST_S = 1.0
"""Who asks for a longer rest after a few calls has no rate worth to be looked for."""
_LONGEST_STEP_S = 1.0
"""Where nobody asked for longer, that time does not count as a trial."""


class LearnedRate:
    """Calls a second, cut by refusals and grown between them."""

    def __init__(self, now: float) -> None:
        self.per_s: float | None = None
        """None as long as there is no guess."""
        self._ceiling = math.inf
        self._searches = True
        self._refusals: deque[tuple[float, int]] = deque(maxlen=8)
        """When the last ones were, and how many calls had been admitted by then."""
        self._began = now
        self._spell = now, 0
        """When calls went again after the last rest, and how many were admitted by then."""
        self._steady: tuple[float, int] | None = None
        """The same since the rate has been near its ceiling."""
        self._rest_s = 0.0
        self._first = 0, 0.0
        """The calls before the very first refusal, and in which time."""
        self._flow = 0.0
        self._sent = 0
        self._grown_at = now
        self._speed = 0.0

    def refused(
        self, now: float, sent: int, refused: int, rest_until: float, ramp_per_s: float
    ) -> None:
        """Learns from a refusal, the first of a burst.

        Args:
            now: seconds.
            sent: all calls so far.
            refused: those that were refused.
            rest_until: when calls go again.
            ramp_per_s: at which rate calls went just now.
        """
        admitted = sent - refused
        count = admitted - self._spell[1]
        if self.per_s is None:
            self._begin(now, count, ramp_per_s, rest_until - now)
        elif count > 0:
            self._cut(now, sent, admitted, count)
        if count > 0 or not self._refusals:  # a server that stays closed is so for all rates
            self._refusals.append((now, admitted))
            self._sent = sent
        self._rest_s = rest_until - self._refusals[-1][0]
        self._spell = rest_until, admitted
        self._steady = None
        self._grown_at = rest_until

    def also_refused(self) -> None:
        """Takes another call of the burst out of the count."""
        self._spell = self._spell[0], self._spell[1] - 1
        if not self._refusals:
            return
        when, admitted = self._refusals[-1]
        self._refusals[-1] = when, admitted - 1

    def grow(self, now: float, admitted: int) -> None:
        """Lets the rate grow by the time gone: calls wait for it, and none was refused."""
        if self.per_s is None or now <= self._grown_at:
            return
        elapsed_s = min(now - self._grown_at, _LONGEST_STEP_S)
        self._grown_at = now
        if self.per_s < _NEAR * self._ceiling:
            self._speed = _SEARCH_PER_S if self._searches else _FAST_PER_S
        else:
            if self._steady is None:
                self._steady = now, admitted
            calm = (now - self._steady[0]) / _CALM_S
            self._speed = _SLOW_PER_S * (1 + calm * calm) / (1 + _REST_WEIGHT * self._rest_s)
        self.per_s *= 1 + self._speed * elapsed_s

    def _begin(self, now: float, count: int, ramp_per_s: float, rest_s: float) -> None:
        span_s = now - self._began
        self._first = count, span_s
        if span_s >= _SHORTEST_S and count >= _FEWEST:
            ramp_per_s = max(ramp_per_s, count / span_s)
        self._ceiling = ramp_per_s or math.inf
        if ramp_per_s or (count > 1 and rest_s <= _SHORT_REST_S):
            self.per_s = _DEEP_CUT * ramp_per_s or _BLIND_PER_S

    def _cut(self, now: float, sent: int, admitted: int, count: int) -> None:
        assert self.per_s is not None
        surely = self._surely(now, admitted)
        since, before = self._refusals[-1]
        flow, self._flow = self._flow, (admitted - before) / (now - since)
        self._ceiling = max(self._measured(now, admitted), surely)
        if surely and self._saves(surely):
            agrees = abs(flow - self._flow) < _AGREES * self._flow
            most = _GRACE * surely if agrees else _MAYBE * (sent - self._sent) / (now - since)
            self._ceiling = max(surely, min(self._ceiling, most))
            self.per_s = min(_SAFE * surely, self.per_s)
            self._searches = False
            return
        self._searches = self._searches and count < _FEWEST
        cut = _CUT if count >= _FEWEST else _DEEP_CUT
        self.per_s = min(max(cut * self._ceiling, _SAFE * surely), self.per_s)

    def _saves(self, per_s: float) -> bool:
        """Whether the server saves up what is not used in a rest: so large a burst it had held."""
        count, span_s = self._first
        return count - span_s * per_s >= max(_FEWEST, _MOSTLY * self._rest_s * per_s)

    def _measured(self, now: float, admitted: int) -> float:
        """What the limit is, if it holds no more than a few calls."""
        assert self.per_s is not None
        # It grew on while the calls went that were too many: two, say.
        measured = self.per_s / (1 + math.sqrt(2 * _TOO_MANY * self._speed / max(self.per_s, 1.0)))
        if self._steady:
            since, before = self._steady
            if admitted - before >= 2 * _FEWEST:
                measured = min(measured, _MEASURED * (admitted - before) / (now - since))
        return measured

    def _surely(self, now: float, admitted: int) -> float:
        """The most that was admitted from one refusal to another: the limit is not below it."""
        return max(
            (
                (admitted - before) / (now - since)
                for since, before in self._refusals
                if admitted - before >= _FEWEST and now - since >= _SHORTEST_S
            ),
            default=0.0,
        )
