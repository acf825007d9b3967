"""One limit of an account, mirrored: so many units a minute, refilled steadily up to a capacity.

The server's own word corrects the mirror with every answer: its `remaining`, less what was sent
since that call left, plus what has flowed in since. Both are counted from the moment of sending,
so that in steady use it is all one whether the server counts on arrival or on answering.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gptflow.engine.limit_headers import Told

BLIND_PACE = 0.985
"""The share of a limit that is used where no header corrects the mirror: two clocks drift."""
_MINUTE_S = 60.0
_LONGER_THAN_A_MINUTE_S = 65.0
_JITTER_S = 0.1
"""The reserve is what flows in within this time: calls do not arrive as evenly as they leave."""
_LEAST_RESERVE = 0.5
"""Of a call: what is kept of a limit that holds little more than one."""
_LEAST_RATIO, _MOST_RATIO = 0.001, 100_000.0
BUNCH_S = 0.05
"""Calls that leave within this time may arrive in another order."""
_ROUNDED = 1.0
"""Servers round down what remains."""
_ENOUGH = 3
"""Observations after which what calls are charged is believed."""
_WEIGHT = 10.0
_SLOWLY = 0.97
"""What calls are charged is believed to fall by no more with each observation."""
_DEARER = 1.1
_MARGIN_S, _MARGIN_KEPT = 0.005, 0.998
"""What a refusal adds to the reserve, in seconds of flow, and what each answer leaves of it."""
_DISTRUST, _TRUSTS = 0.5, 1.005
"""What a refusal that should not have been leaves of the largest burst, and what an answer adds."""
_TOGETHER = 2.0
"""How many calls may leave together, however little is trusted."""
_MEMORY = 0.95
"""What is left of an old observation's weight with each new one."""


Mark = tuple[float, float]
"""The mirrored level right after a call left, and the sum of all corrections by then."""


class Since(NamedTuple):
    """Where a call stands among the others. Amounts as estimated."""

    sent_at: float
    mark: Mark | None
    """None, if the limit was not known when it left."""
    total: float
    """All calls so far, up to and with this one."""
    before: float
    """What left at about the same time, before it."""
    after: float
    """What left at about the same time, after it."""
    later: float
    """All that left after it."""


class Bucket:
    """A limit as far as it is known."""

    __slots__ = (
        "_at",
        "_best",
        "_charged",
        "_counted",
        "_least",
        "_level",
        "_limit",
        "_margin_s",
        "_observed",
        "_seen",
        "_shifted",
        "_sunk_at",
        "_trust",
        "capacity",
        "learns_ratio",
        "pace",
        "per_s",
        "ratio",
    )

    def __init__(self, per_s: float, capacity: float, now: float, *, learns_ratio: bool) -> None:
        """Build a full one.

        Args:
            per_s: units that flow in each second.
            capacity: the most that it holds.
            now: seconds.
            learns_ratio: whether what calls are charged is an estimate, to be corrected.
        """
        self.per_s = per_s
        self.capacity = capacity
        self.pace = BLIND_PACE
        self.learns_ratio = learns_ratio
        self.ratio = 1.0
        """Units charged for one that was estimated."""
        self._level = capacity
        self._at = now
        self._limit: float | None = None
        self._best = self._charged = self._counted = 0.0
        self._least = math.inf
        self._margin_s = 0.0
        self._shifted = 0.0
        self._trust = 1.0
        self._sunk_at = -math.inf
        """When a call was refused: those that left before know of more than there is."""
        self._observed = 0
        self._seen: tuple[float, float, float] | None = None

    def ready_at(self, estimate: float) -> float:
        """When a call may go; a time gone by if it may at once."""
        cost = estimate * self.ratio
        lacking = cost + self._reserve(cost) - self._level
        return self._at + lacking / (self.per_s * self.pace)

    def spend(self, now: float, estimate: float) -> Mark:
        """Takes out what a call is charged. The mark is for `observe`."""
        cost = estimate * self.ratio
        # A call larger than all that was seen so far may go when the bucket holds as much.
        most = max(self._most, cost)
        self._level = min(most, self.level(now)) - cost
        self._at = now
        return self._level, self._shifted

    @property
    def _most(self) -> float:
        """What may be taken out at once: less of a limit whose refusals cannot be explained."""
        return max(self._trust * self.capacity, min(self.capacity, _TOGETHER * self.ratio))

    def level(self, now: float) -> float:
        """What is in it, above its capacity if nothing was taken for long."""
        return self._level + (now - self._at) * self.per_s * self.pace

    def slept(self, slept_s: float) -> None:
        """Lets so much time flow in that nobody has counted."""
        self._at -= slept_s

    def full_at(self) -> float:
        """When it would be full: the same until something is taken out. Early is much room."""
        return self._at + (self.capacity - self._level) / self.per_s

    def refund(self, now: float, estimate: float) -> None:
        """Puts back what a refused call was thought to be charged."""
        self._level, self._at = self.level(now) + estimate * self.ratio, now

    def sink(self, now: float, ready_at: float, estimate: float) -> None:
        """Corrects it after a refusal: at `ready_at` there will be room for such a call only."""
        if self.learns_ratio and self.pace == 1.0:  # never may calls seem to cost next to nothing
            self.ratio *= _DEARER
            self._charged *= _DEARER
        self._sunk_at = now
        level = estimate * self.ratio - (ready_at - now) * self.per_s
        if level < self.level(now):
            self._shifted += level - self.level(now)
            self._level, self._at = level, now

    def observe(self, told: Told, now: float, since: Since, *, charged: bool) -> None:
        """Corrects it by what a response tells.

        Calls that left at about the same time may be counted in `remaining` or not. So there is a
        least and a most that can be left, and the mirror moves only as far as it is outside.
        `charged`: the call was served, so that something was taken out for it.
        """
        self.pace = 1.0
        self._resize(told)
        if self.learns_ratio and charged:
            self._learn_ratio(told, since)
        before, after = since.before * self.ratio, since.after * self.ratio
        if since.mark is None:  # left before this limit was known
            gained = (now - since.sent_at) * self.per_s
            level = min(self.capacity, told.remaining + gained) - since.later * self.ratio
            self._level, self._at = level, now
            return
        # What was corrected since then is not to be corrected twice.
        mirrored = since.mark[0] + self._shifted - since.mark[1]
        error = told.remaining - mirrored
        if error > before and since.sent_at >= self._sunk_at:
            self._shift(now, error - before)
        elif error < -after - _ROUNDED:
            self._shift(now, error + after + _ROUNDED)
        self._margin_s *= _MARGIN_KEPT
        self._trust = min(1.0, self._trust * _TRUSTS)

    def _shift(self, now: float, units: float) -> None:
        self._level = min(self._most, self.level(now)) + units
        self._level = min(self._most, self._level)
        self._at = now
        self._shifted += units

    @property
    def is_sure(self) -> bool:
        """Whether what calls are charged is known well enough to let many go."""
        return not self.learns_ratio or self._observed >= _ENOUGH

    def widen(self) -> None:
        """Keeps a larger reserve for a while, after a refusal that should not have been."""
        self._margin_s = 2 * self._margin_s + _MARGIN_S
        self._trust *= _DISTRUST

    def _reserve(self, cost: float) -> float:
        spare = min(0.1 * (self.capacity - cost), _JITTER_S * self.per_s)
        margin = min(self._margin_s * self.per_s, 0.5 * max(cost, spare))
        # More than may be taken at once is never there: each call would wait for it to flow in.
        most = max(self._most - cost, _LEAST_RESERVE * cost)
        return min(max(0.02 * cost, spare) + margin, most)

    def _resize(self, told: Told) -> None:
        remaining, limit = told.remaining, told.limit or self._limit
        if limit is None:  # Azure leaves it out at times: what remains is at most a minute's worth
            limit = max(remaining + 1, self.per_s * _MINUTE_S)
        if told.limit != self._limit:
            self._limit, self._best, self._least = told.limit, 0.0, math.inf
        self.per_s = limit / _MINUTE_S
        reset_s = told.reset_s
        if reset_s is not None and reset_s > _LONGER_THAN_A_MINUTE_S and remaining < limit:
            # A limit per day, as Groq and OpenAI's free tier name it under the same header.
            self.per_s = (limit - remaining) / reset_s
        self._best = max(self._best, remaining)
        if reset_s is not None:
            self._least = min(self._least, remaining + reset_s * self.per_s, limit)
        known = self._least if self._least < math.inf else 0.0
        self.capacity = max(self._best, known, 1.0)

    def _learn_ratio(self, told: Told, since: Since) -> None:
        seen = self._seen
        if seen is None or since.sent_at - seen[1] > BUNCH_S:
            self._seen = told.remaining, since.sent_at, since.total
        if seen is None or (self._observed < _ENOUGH and since.sent_at == seen[1]):
            self._guess_ratio(told, since)
        elif since.sent_at - seen[1] > BUNCH_S:
            whole = 0.97 * self.capacity  # what flows into a full bucket is lost: tells nothing
            if told.remaining < whole and seen[0] < whole and since.total > seen[2]:
                charged = seen[0] - told.remaining + (since.sent_at - seen[1]) * self.per_s
                self._charged = _MEMORY * self._charged + charged
                self._counted = _MEMORY * self._counted + since.total - seen[2]
                self._observed += 1
        if self._counted > 0 and self._charged > 0:
            ratio = self._charged / self._counted
            if self._observed > _ENOUGH:  # to be too low costs refusals
                ratio = max(ratio, _SLOWLY * self.ratio)
            self.ratio = min(max(ratio, _LEAST_RATIO), _MOST_RATIO)

    def _guess_ratio(self, told: Told, since: Since) -> None:
        """From the very first calls: all that is missing was taken by them."""
        if told.reset_s is None:
            return
        charged = max(told.reset_s * self.per_s, since.total)  # less may be clipped: it was full
        if told.limit:  # a window's reset is its end
            charged = min(charged, told.limit - told.remaining)
        self._observed += 1
        if charged * self._counted >= self._charged * since.total:  # they came in any order
            # It weighs as many calls, until enough of them are counted.
            self._charged, self._counted = _WEIGHT * charged, _WEIGHT * since.total
