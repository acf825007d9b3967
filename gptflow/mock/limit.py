"""The allowance of an API key: requests and tokens per minute, as token buckets."""

from __future__ import annotations

import math

import msgspec

from gptflow.mock.duration import go_duration
from gptflow.mock.failure.model import Header


class Refusal(msgspec.Struct, frozen=True):
    """Why a request has to wait, or can never be served."""

    failure: str
    """The failure of the catalogue that says so."""
    limit: int
    used: int
    requested: int
    wait_s: float = 0.0


class Bucket:
    """So many per minute: refilled steadily, and holding what `burst_s` seconds bring."""

    def __init__(self, per_minute: int, burst_s: float, now_s: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute * burst_s / 60)
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

    def headers(self, unit: str) -> list[Header]:
        """What OpenAI tells; reset is the time until the bucket is full again."""
        reset = go_duration((self.capacity - self._level) * 60 / self.per_minute)
        remaining = max(0, math.floor(self._level))
        return [
            (f"x-ratelimit-limit-{unit}".encode(), b"%d" % self.per_minute),
            (f"x-ratelimit-remaining-{unit}".encode(), b"%d" % remaining),
            (f"x-ratelimit-reset-{unit}".encode(), reset.encode()),
        ]


class Allowance:
    """What one key, or all keys of one organization, may still ask."""

    def __init__(self, requests: Bucket | None, tokens: Bucket | None) -> None:
        self._requests = requests
        self._tokens = tokens

    def take(self, tokens: int, now_s: float) -> Refusal | None:
        """Charge one request of so many tokens, or say why not. A refused one costs nothing."""
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.refill(now_s)
        refusal = _refusal(self._requests, 1, "rate_limit_rpm")
        refusal = refusal or _refusal(self._tokens, tokens, "rate_limit_tpm")
        if refusal is not None:
            return refusal
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)
        return None

    def headers(self) -> list[Header]:
        """The x-ratelimit headers, as of the last request."""
        told = self._requests.headers("requests") if self._requests is not None else []
        return told + (self._tokens.headers("tokens") if self._tokens is not None else [])


def _refusal(bucket: Bucket | None, amount: int, failure: str) -> Refusal | None:
    if bucket is None:
        return None
    if amount > bucket.capacity:
        return Refusal("request_too_large", int(bucket.capacity), bucket.used, amount)
    wait_s = bucket.wait_s(amount)
    if wait_s <= 0:
        return None
    return Refusal(failure, bucket.per_minute, bucket.used, amount, wait_s)
