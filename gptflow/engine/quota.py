"""One limit of an account whose server gives back nothing until the end of a window.

A bucket's reset is the time in which what is missing flows in: what remains and that together are
always the same. A window's is its end, whatever was used of it. Who takes one for the other sends
into an empty window. A long window is used up and waited for. A short one, or one that slides, is
used evenly: when it ends is not known well enough, as nobody says how long an answer was under way.
"""

from __future__ import annotations

import math

from gptflow.engine.bucket import Mark, Since
from gptflow.engine.limit_headers import Told

_MINUTE_S = 60.0
_LONG_S = 5.0
"""Windows from here on are used up and waited for."""
_PACE = 0.985
"""The share of the limit that is used evenly."""
_RUSH = 0.02
"""In such a share of a long window it is used up: not in none, as it may not have begun yet."""
_TOGETHER = 2.0
"""How many calls may leave together in an even flow: some were held up."""
_LATE = 0.005
"""A window is taken to end such a share of it later: one that slides ends call by call."""
_TELLING = 10
"""An end that moves on by such a share of the window before it has come: the window slides."""
_WHOLE = 0.8
"""A limit of which so much was once left is that of a window, whatever its length. Else it is told
for a minute, and the window shorter."""
_VARIES, _NOISE = 0.1, 3.0
"""By so much a bucket's remaining and its reset together do not differ, in shares and in units."""
_RANGE_S = 65.0
"""A later reset is that of a limit per day."""


class ResetWatch:
    """Finds out whether a limit is a window."""

    __slots__ = ("_least", "_most")

    def __init__(self) -> None:
        self._least, self._most = math.inf, 0.0

    def is_window(self, told: Told) -> bool:
        """Whether what was told so far cannot be a bucket."""
        reset_s, limit = told.reset_s, told.limit
        if not limit or not reset_s or reset_s > _RANGE_S:
            return False
        per_s = limit / _MINUTE_S
        whole = told.remaining + reset_s * per_s
        self._least, self._most = min(self._least, whole), max(self._most, whole)
        rounding = per_s if reset_s.is_integer() else 0.0
        return self._most - self._least > _VARIES * self._most + _NOISE + rounding


class Quota:
    """A window as far as it is known. Looks like a bucket to its account."""

    __slots__ = (
        "_began",
        "_best",
        "_is_told",
        "_left",
        "_length_s",
        "_next_at",
        "_reset_at",
        "_slides",
        "learns_ratio",
        "pace",
        "per_s",
        "ratio",
    )

    is_sure = True

    def __init__(self, ratio: float) -> None:
        """Build one of which nothing is known. `ratio`: units charged for one estimated."""
        self.per_s = 0.0
        self.ratio = ratio
        self.pace = 1.0
        self.learns_ratio = False
        self._best = 0.0
        """The most that ever remained."""
        self._left = 0.0
        self._length_s = 0.0
        """The longest time that was left of a window."""
        self._reset_at = -math.inf
        self._is_told = False
        """Whether the end of this window was told."""
        self._began = -math.inf
        """When calls went again after the last one."""
        self._next_at = -math.inf
        self._slides = False

    def ready_at(self, estimate: float) -> float:
        """When a call may go; a time gone by if it may at once."""
        if not self._is_used_up_first:
            return self._next_at
        return self._next_at if self._left >= estimate * self.ratio else self._reset_at

    def spend(self, now: float, estimate: float) -> Mark:
        """Takes out what a call is charged."""
        cost = estimate * self.ratio
        if now >= self._reset_at or (self._left < cost and self._is_used_up_first):
            self._begin(now)
        self._left -= cost
        gap_s = cost / (self.per_s * _PACE)
        if self._is_used_up_first:
            gap_s *= _RUSH
        self._next_at = max(self._next_at, now - (_TOGETHER - 1) * gap_s) + gap_s
        return 0.0, 0.0

    def slept(self, slept_s: float) -> None:
        """Brings its moments nearer by time that nobody has counted."""
        self._reset_at -= slept_s
        self._next_at -= slept_s

    def full_at(self) -> float:
        """When it would be whole. Early is much room."""
        return max(self._next_at, self._reset_at if self._left < 1 else -math.inf)

    def refund(self, now: float, estimate: float) -> None:
        """Nothing: the next word of the server is soon enough."""

    def sink(self, _now: float, ready_at: float, _estimate: float) -> None:
        """Lets nothing go until `ready_at`, after a refusal."""
        self._left = 0.0
        self._reset_at = max(self._reset_at, ready_at)
        self._next_at = max(self._next_at, ready_at)

    def observe(self, told: Told, now: float, since: Since, *, charged: bool) -> None:  # noqa: ARG002  # as a bucket
        """Corrects it by what a response tells. All the same whether it was `charged`."""
        limit, reset_s = told.limit, told.reset_s
        if limit is None or reset_s is None or since.sent_at < self._began:
            return
        reset_at = now + reset_s + _LATE * max(self._length_s, reset_s)
        moved_s = reset_at - self._reset_at
        if self._is_told and moved_s > self._length_s / _TELLING:
            self._slides = self._slides or self._reset_at - now > moved_s
        is_first = self._length_s == 0.0
        if self._slides or not self._is_told or moved_s < 0:
            self._reset_at = reset_at
        self._is_told = True
        self._best = max(self._best, told.remaining)
        self._length_s = max(self._length_s, reset_s)
        self.per_s = limit / (self._length_s if self._best > _WHOLE * limit else _MINUTE_S)
        left = told.remaining - since.later * self.ratio
        least, most = left - since.before * self.ratio, left + since.after * self.ratio
        self._left = least if is_first else max(least, min(self._left, most))
        if is_first and self._left < self.ratio:
            self._next_at = reset_at

    def _begin(self, now: float) -> None:
        """A new window: it holds as much as one ever did, and its end is not known yet."""
        self._left = self._best
        self._began = now
        self._reset_at = now + _MINUTE_S
        self._is_told = False

    def widen(self) -> None:
        """Nothing: it keeps no reserve."""

    @property
    def _is_used_up_first(self) -> bool:
        return self._length_s >= _LONG_S and not self._slides
