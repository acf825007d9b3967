"""How many calls a key should have in flight, found by trying: for servers that tell no limits.

More calls at a time bring more throughput until the server is busy; beyond that they only wait
there, or make it slower. At first the window grows as long as that pays (`ramp`). Then a larger
and a smaller size are looked at now and then, and taken if the difference is more than noise.
A look that cost much is followed by nearer ones, and by fewer.
"""

from __future__ import annotations

import math

from gptflow.engine.measured import Measured
from gptflow.engine.ramp import LARGEST, Ramp

_FEWEST_ANSWERS = 64
"""A size is measured by so many answers, and by as many as it has calls."""
_MEMORY = 0.85
"""What is left of a size's older measurements with each new one."""
_FULL = 0.9
"""Answers that come while less of the window is in flight say nothing about it."""
_FAR, _FARTHEST, _NEAREST = 1.25, 2.0, 1.04
"""How many times larger or smaller the size is that is looked at."""
_WORTH = 0.04
"""So much of the calls added has to be gained: 1.25 times the calls have to bring 0.9 % more."""
_SURELY, _HARDLY = 0.75, 0.25
"""Standard errors by which more calls, and fewer calls, have to bring more: on a flat plateau the
window rather shrinks than grows."""
_COSTLY, _CHEAP = 0.03, 0.015
"""A look that lost more than the one is followed by nearer ones, more than the other by fewer."""
_OFTEN, _RARELY = 4, 32
"""Measurements of the same size between two looks, at most: after cheap ones, and after others."""
_CHANGED = 0.05
"""The server is another if throughput is so different, and by three standard errors."""
_BAD, _BAD_AFTER = 0.93, 8
"""A look ends when after so many answers it surely brings no more than this share."""
_SMALL = 8
"""Down to here a smaller size is always looked at: the shortest latency is not known well."""
_CEILING_S = 60.0
"""How long the size that a server refused is not tried again."""


class Window:
    """The size, and what led to it. Only calls that went while it was full say anything."""

    def __init__(self) -> None:
        self._ramp: Ramp | None = Ramp()
        self.size = self._ramp.size
        self._shortest_s = 0.0
        """The latency of a server at rest; 0 while it is not known."""
        self._sizes: dict[int, Measured] = {}
        self._home = self.size
        """The size that is held."""
        self._held, self._hold = 0, 1
        self._up = self._down = _FAR
        self._looks_up = False
        self._skip = 0
        self._since = 0.0
        """When the size was changed: calls that left before say nothing about it."""
        self._now = Measured()
        self._first = Measured()
        """What is measured, with the answers that come before it is: the quick ones."""
        self._ceiling = LARGEST
        self._ceiling_until = math.inf
        self._burst_at = self._cut_at = -math.inf
        """When the first call of a burst of refusals left, and when it came back."""
        self._cut = 1
        self._is_cutting = False
        self._tried = self._refused = 0
        """Calls in flight in a burst of refusals, and those of them that were refused."""

    def answered(self, now: float, sent_at: float, load_then: int, load: int) -> None:
        """Learns from an answer.

        Args:
            now: seconds.
            sent_at: when the call left.
            load_then: how many were in flight as it left, with it.
            load: how many are in flight now, with it.
        """
        if self._ramp:
            keep = self._ramp.answered(now - sent_at, load_then, load)
            self.size = self._ramp.size
            if keep is not None:
                self._end_ramp()
                self._settle_on(now, keep)
            return
        if self._burst_at <= sent_at < self._cut_at and load_then > self._tried:
            self._ceiling += load_then - self._tried  # it was in the burst, and was served
            self._tried = load_then
        if self._is_cutting and sent_at >= self._cut_at:
            self._is_cutting = False
            self._settle_on(now, self._ceiling)
        if load < _FULL * self.size:
            self._skip = max(self._skip, self.size)
        else:
            self._measure(now, sent_at, load)

    def overloaded(self, now: float, sent_at: float, load_then: int) -> None:
        """Cuts, after the server refused a call because it is busy.

        Of the calls that were in flight together, as many are served as were not refused: they
        may have arrived in any order. Until the burst is over, fewer go.
        """
        if sent_at < self._cut_at:  # of the same burst
            self._refused += 1
            self._tried = max(self._tried, load_then)
        else:
            self._burst_at, self._cut_at = sent_at, now
            self._refused, self._tried = 1, load_then
            if load_then <= self._ceiling < LARGEST:  # what was thought to be safe is not
                self._tried += 1 - max(self._cut, self.size // 32)
                self._cut = min(2 * self._cut, max(1, self.size // 16))
        unsure = math.isqrt(self._refused // 3)  # two bursts more would be taken for a rate
        self._ceiling = max(self._tried - self._refused - unsure, 1)
        self._ceiling_until = now + _CEILING_S
        self._is_cutting = True
        self._end_ramp()
        self._settle_on(now, max(1, min(self.size, load_then - 1)))

    def _end_ramp(self) -> None:
        if self._ramp:
            self._shortest_s = self._ramp.shortest_s
            self._ramp = None

    def _settle_on(self, now: float, size: int) -> None:
        """Makes a size the one to hold."""
        self._home = min(size, self._ceiling)
        self._held, self._hold = 0, 1
        self._go(now, self._home)

    def _go(self, now: float, size: int) -> None:
        if size != self.size:
            self._skip = max(size, self.size)
            self._since = now
        self.size = size
        self._now, self._first = Measured(), Measured()

    def _measure(self, now: float, sent_at: float, load: int) -> None:
        is_due = self._skip <= 0
        self._skip = max(self._skip - 1, 0)
        if sent_at < self._since:
            return
        self._first.count(now - sent_at, load)
        if is_due:
            self._now.count(now - sent_at, load)
        if self._now.calls >= max(_FEWEST_ANSWERS, self.size):
            self._decide(now, self._now)
        elif self._is_bad():
            self._decide(now, self._first)

    def _is_bad(self) -> bool:
        home, first = self._sizes.get(self._home), self._first
        if home is None or self.size == self._home or first.calls < _BAD_AFTER:
            return False
        return first.per_s * (1 + 2 * first.doubt) < _BAD * home.per_s

    def _decide(self, now: float, measured: Measured) -> None:
        """Chooses the next size to measure, after one was."""
        self._remember(measured)
        if now >= self._ceiling_until:
            self._ceiling += max(1, self._ceiling // 20)
            self._ceiling_until = now + _CEILING_S
            self._cut = 1
        if self.size == self._home:
            self._held += 1
        elif self._is_better():
            self._settle_on(now, self.size)
            return
        if self._held < self._hold or self._home not in self._sizes:
            self._go(now, self._home)
            return
        self._held = 0
        self._looks_up = not self._looks_up
        self._go(now, self._neighbour())

    def _remember(self, measured: Measured) -> None:
        known = self._sizes.setdefault(self.size, Measured())
        if known.calls:
            change = abs(measured.per_s / known.per_s - 1)
            if change > _CHANGED + 3 * measured.doubt_with(known):
                known = Measured()
                self._sizes = {self.size: known}
                self._up = self._down = _FAR
                self._hold = 1
                self._shortest_s = 0.0
        known.add(measured, _MEMORY)
        if self._shortest_s:
            self._shortest_s = min(self._shortest_s, known.mean_s)

    def _neighbour(self) -> int:
        """The size to look at; the one that is held if there is none."""
        home = self._home
        up = min(max(home + 1, round(home * self._up)), self._ceiling, LARGEST)
        down = max(min(home - 1, round(home / self._down)), 1)
        if home > _SMALL and down < self._shortest_s * self._sizes[home].per_s * (1 - _WORTH / 4):
            down = home  # at the shortest latency it would still bring less
        first, second = (up, down) if self._looks_up else (down, up)
        return second if first == home else first

    def _is_better(self) -> bool:
        """Whether to move to the size that was looked at. Says how the next look will be."""
        there, home = self._sizes[self.size], self._sizes.get(self._home)
        if home is None:
            return False
        gain, doubt = there.per_s / home.per_s - 1, there.doubt_with(home)
        apart = math.log(self.size / self._home)
        is_up = apart > 0
        if is_up and gain - doubt > (self.size / self._home - 1) / 2:
            self._up = min(self._up**2, _FARTHEST)
        elif self._up > _FAR:
            self._up = _FAR
        if is_up and gain > _WORTH * apart + _SURELY * doubt:
            return True
        if not is_up and gain > _WORTH * apart / 2 + _HARDLY * doubt:
            return True
        self._hold = min(2 * self._hold, _RARELY if gain < -_CHEAP else _OFTEN)
        if gain < -_COSTLY and is_up:
            self._up = max(math.sqrt(self._up), _NEAREST)
        elif gain < -_COSTLY:
            self._down = max(math.sqrt(self._down), _NEAREST)
        return False
