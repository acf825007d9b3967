"""The rate of an account whose server tells none: learned from its refusals alone.

Between two refusals a server admits what has flowed into its bucket between them. So the count of
admitted calls over that time is the limit; what the bucket held at the very first is not known,
which is why the first guess is low.
"""

from __future__ import annotations

from collections import deque

_SHORTEST_S, _FEWEST = 0.3, 5
"""Less than this tells nothing of a rate."""
_FIRST_SHARE = 0.7
_SAFE_SHARE = 0.97
_TICK_S = 0.001
_CUTS_IN_A_ROW = 2
_CALM_S = 40.0
_SLOW_PER_S, _FAST_PER_S = 0.0007, 0.005
"""By how much the rate grows in a second: soon after a refusal, and after a calm time."""


class LearnedRate:
    """Calls a second, cut by refusals and grown between them."""

    def __init__(self, now: float) -> None:
        self.per_s: float | None = None
        """None as long as there is no guess."""
        self._began = now, 0
        self._marks: deque[tuple[float, int]] = deque(maxlen=4)
        self._grown_at = now
        self._before_row: float | None = None

    def refused(self, now: float, admitted: int, in_a_row: int, ramp_per_s: float) -> None:
        """Learns from a refusal, the first of a burst.

        Args:
            now: seconds.
            admitted: all calls so far that were not refused.
            in_a_row: how many refusals there were since the last answer, with this one.
            ramp_per_s: at which rate calls went just now.
        """
        self._grown_at = now
        if in_a_row > _CUTS_IN_A_ROW:  # whoever is closed is so for all rates
            self.per_s = self._before_row
            return
        if in_a_row == 1:
            self._before_row = self.per_s
        since, before = self._marks[0] if self._marks else self._began
        span_s, count = now - since, admitted - before
        if not self._marks:
            if span_s >= _SHORTEST_S and count >= _FEWEST:
                self.per_s = _FIRST_SHARE * max(count / span_s, ramp_per_s)
        elif count >= _FEWEST:
            self.per_s = _SAFE_SHARE * count / max(span_s, _SHORTEST_S)
        elif self.per_s is not None:
            self.per_s = min(self.per_s, (count + 1) / max(span_s, _TICK_S))
        self._marks.append((now, admitted))

    def grow(self, now: float) -> None:
        """Lets the rate grow by the time gone: calls wait for it, and none was refused."""
        if self.per_s is None:
            return
        last = self._marks[-1][0]
        per_s = _SLOW_PER_S if now - last < _CALM_S else _FAST_PER_S
        self.per_s *= 1 + per_s * min(now - self._grown_at, 1.0)
        self._grown_at = now
