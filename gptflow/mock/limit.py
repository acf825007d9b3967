"""The allowance of an API key: requests and tokens per minute, and what is left of them."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from gptflow.mock.dialect import TELLERS, Dialect, Level
from gptflow.mock.failure.model import Header


class Refusal(msgspec.Struct, frozen=True):
    """Why a request has to wait, or can never be served."""

    unit: str
    """requests or tokens."""
    limit: int
    used: int
    requested: int
    wait_s: float | None
    """Until it would be served; None: never, since it asks for more than there can be."""


class Bucket:
    """So many per minute: refilled steadily, and holding what `span_s` seconds bring."""

    def __init__(self, per_minute: int, span_s: float, now_s: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute * span_s / 60)
        self._level = self.capacity
        self._at_s = now_s

    def refill(self, now_s: float) -> None:
        """Bring the level up to the time."""
        gained = (now_s - self._at_s) * self.per_minute / 60
        self._level = min(self.capacity, self._level + gained)
        self._at_s = now_s

    def wait_s(self, amount: int) -> float:
        """Seconds until so much is there; 0 if it is. `amount` is at most the capacity."""
        return max(0.0, (amount - self._level) * 60 / self.per_minute)

    def take(self, amount: int) -> None:
        """Take what `wait_s` said is there."""
        self._level -= amount

    @property
    def used(self) -> int:
        """What of the capacity is not there."""
        return math.ceil(self.capacity - self._level)

    def level(self, unit: str) -> Level:
        """The state as of the last refill."""
        full_in_s = (self.capacity - self._level) * 60 / self.per_minute
        return Level(unit, self.per_minute, max(0, math.floor(self._level)), full_in_s)


class Window:
    """So many per minute, all of which comes back at once whenever `span_s` seconds are over."""

    def __init__(self, per_minute: int, span_s: float, now_s: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute * span_s / 60)
        self.used = 0
        self._span_s = span_s
        self._end_s = now_s + span_s
        self._at_s = now_s

    def refill(self, now_s: float) -> None:
        """Begin the window in which the time lies."""
        self._at_s = now_s
        if now_s >= self._end_s:
            self.used = 0
            self._end_s += self._span_s * (1 + (now_s - self._end_s) // self._span_s)

    def wait_s(self, amount: int) -> float:
        """Seconds until so much is there; 0 if it is. `amount` is at most the capacity."""
        return 0.0 if self.used + amount <= self.capacity else self._end_s - self._at_s

    def take(self, amount: int) -> None:
        """Take what `wait_s` said is there."""
        self.used += amount

    def level(self, unit: str) -> Level:
        """The state as of the last refill."""
        remaining = max(0, math.floor(self.capacity - self.used))
        return Level(unit, self.per_minute, remaining, self._end_s - self._at_s)


Limit = Bucket | Window
KINDS: dict[Literal["bucket", "fixed"], type[Bucket | Window]] = {
    "bucket": Bucket,
    "fixed": Window,
}


class Allowance:
    """What one key, or all keys of one organization, may still ask."""

    def __init__(self, requests: Limit | None, tokens: Limit | None) -> None:
        self._requests = requests
        self._tokens = tokens

    def take(self, tokens: int, now_s: float) -> Refusal | None:
        """Charge one request of so many tokens, or say why not. A refused one costs nothing."""
        for limit in (self._requests, self._tokens):
            if limit is not None:
                limit.refill(now_s)
        refusal = _refusal(self._requests, 1, "requests")
        refusal = refusal or _refusal(self._tokens, tokens, "tokens")
        if refusal is not None:
            return refusal
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)
        return None

    def headers(self, dialect: Dialect, unix_s: float) -> list[Header]:
        """What a server of this dialect tells, as of the last request."""
        if dialect == "none":
            return []
        tell = TELLERS[dialect]
        told = tell(self._requests.level("requests"), unix_s) if self._requests is not None else []
        if self._tokens is not None:
            told += tell(self._tokens.level("tokens"), unix_s)
        return told


def _refusal(limit: Limit | None, amount: int, unit: str) -> Refusal | None:
    if limit is None:
        return None
    if amount > limit.capacity:
        return Refusal(unit, int(limit.capacity), limit.used, amount, None)
    wait_s = limit.wait_s(amount)
    if wait_s <= 0:
        return None
    return Refusal(unit, limit.per_minute, limit.used, amount, wait_s)
