"""A day of rate limits in a second: the key pool against simulated servers, in virtual time."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal

from gptflow.engine.config import KeyEntry
from gptflow.engine.keys import KeyPool, Lease, Wait
from gptflow.engine.secret import Secret
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.records import FailureKind

Style = Literal["openai", "whole seconds", "anthropic", "no reset", "silent"]
Hint = Literal["exact", "retry-after", "none", "stated"]
WALL = 1_700_000_000.0


@dataclass(slots=True)
class Limit:
    """A server's bucket, or its window."""

    per_minute: float
    burst_s: float = 1.0
    window_s: float = 0.0
    unit: str = "requests"
    level: float = field(init=False)
    at: float = 0.0
    capacity: float = field(init=False)

    def __post_init__(self) -> None:
        whole = self.per_minute * (self.window_s or self.burst_s) / 60
        self.capacity = self.level = max(1.0, whole)

    def refill(self, now: float) -> None:
        if self.window_s:
            if now // self.window_s != self.at // self.window_s:
                self.level = self.capacity
        else:
            self.level = min(self.capacity, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def wait_s(self, cost: float, now: float) -> float:
        if self.level >= cost - 1e-9:
            return 0.0
        return self._left_s(now) if self.window_s else (cost - self.level) * 60 / self.per_minute

    def _left_s(self, now: float) -> float:
        return self.window_s - now % self.window_s

    def headers(self, style: Style, now: float) -> dict[str, str]:
        missing = self.capacity - self.level
        reset_s = self._left_s(now) if self.window_s else missing * 60 / self.per_minute
        remaining = str(max(0, math.floor(self.level)))
        if style == "anthropic":
            moment = _iso(now + reset_s)
            prefix = f"anthropic-ratelimit-{self.unit}"
            return {
                f"{prefix}-limit": f"{self.per_minute:.0f}",
                f"{prefix}-remaining": remaining,
                f"{prefix}-reset": moment,
            }
        told = {
            f"x-ratelimit-limit-{self.unit}": f"{self.per_minute:.0f}",
            f"x-ratelimit-remaining-{self.unit}": remaining,
        }
        if style == "openai":
            told[f"x-ratelimit-reset-{self.unit}"] = f"{reset_s * 1000:.0f}ms"
        elif style == "whole seconds":
            told[f"x-ratelimit-reset-{self.unit}"] = f"{math.ceil(reset_s)}"
        return told


def _iso(now: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(WALL + now, UTC).isoformat()


@dataclass(slots=True)
class Server:
    """Answers calls: `limits` by key, or shared where several keys have the same list."""

    limits: dict[str, list[Limit]] = field(default_factory=dict)
    style: Style = "openai"
    hint: Hint = "exact"
    latency: Callable[[int, random.Random], float] = lambda _n, _r: 0.2
    most_in_flight: int = 10**9
    overload: int = 503
    lost: dict[str, VerdictKind] = field(default_factory=dict)
    charge: Callable[[float], float] = lambda tokens: tokens
    tells_on_answer: bool = False
    refuses_oddly: Callable[[], bool] = lambda: False
    """Whether a call is refused that is within all limits."""
    in_flight: int = 0

    def judge(self, key: str, tokens: float, now: float) -> tuple[Verdict | None, dict[str, str]]:
        if key in self.lost:
            return Verdict(self.lost[key], "lost"), {}
        if self.in_flight >= self.most_in_flight:
            kind = VerdictKind.REST if self.overload == 429 else VerdictKind.RETRY
            return Verdict(kind, "busy", FailureKind.SERVER, status=self.overload), {}
        limits = self.limits.get(key, [])
        costs = [1.0 if one.unit == "requests" else self.charge(tokens) for one in limits]
        for one in limits:
            one.refill(now)
        waits = [one.wait_s(cost, now) for one, cost in zip(limits, costs, strict=True)]
        if any(waits):
            return self._refusal(limits, costs, waits), self._headers(limits, now)
        if self.refuses_oddly():
            refusal = Verdict(VerdictKind.REST, "Too many requests", status=429, wait_s=0.2)
            return refusal, self._headers(limits, now)
        for one, cost in zip(limits, costs, strict=True):
            one.level -= cost
        return None, self._headers(limits, now)

    def _headers(self, limits: list[Limit], now: float) -> dict[str, str]:
        if self.style == "silent":
            return {}
        return {k: v for one in limits for k, v in one.headers(self.style, now).items()}

    def _refusal(self, limits: list[Limit], costs: list[float], waits: list[float]) -> Verdict:
        worst = waits.index(max(waits))
        message, wait_s = "Too many requests", None
        if self.hint in ("exact", "stated"):
            wait_s = max(waits)
        if self.hint == "retry-after":
            wait_s = float(math.ceil(max(waits)))
        if self.hint == "stated":
            unit = "requests" if limits[worst].unit == "requests" else "tokens"
            message = (
                f"Rate limit reached for m in organization o on {unit} per min (X): Limit "
                f"{limits[worst].per_minute:.0f}, Used 1, Requested {costs[worst]:.0f}. Please"
            )
        return Verdict(VerdictKind.REST, message, status=429, wait_s=wait_s)


@dataclass(slots=True)
class Outcome:
    """What a simulated run came to."""

    took_s: float = 0.0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    by_key: Counter[str] = field(default_factory=Counter)
    refused_by_key: Counter[str] = field(default_factory=Counter)
    most_in_flight: int = 0
    load_s: float = 0.0

    @property
    def per_s(self) -> float:
        return self.answered / self.took_s

    @property
    def refused_share(self) -> float:
        return self.refused / (self.answered + self.refused)


class Simulation:
    """Rows that are asked with a pool, so many at a time."""

    def __init__(
        self,
        pool: KeyPool,
        server: Server,
        *,
        seed: int = 0,
        most: int = 1024,
        jitter_s: float = 0.002,
    ) -> None:
        self.pool, self.server = pool, server
        self.random = random.Random(seed)
        self.most = most
        self.jitter_s = jitter_s
        self.now = 0.0
        self.outcome = Outcome()
        self.waiting: list[float] = []
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._in_flight = 0
        self._alarm_at = math.inf

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heappush(self.events, (when, self._count, what))

    def run(self, rows: int, *, tokens: Callable[[random.Random], int] = lambda _: 0) -> Outcome:
        self.waiting = [tokens(self.random) for _ in range(rows)]
        self.waiting.reverse()
        self._move()
        while self.events and self.outcome.answered < rows:
            self.now, _, what = heappop(self.events)
            what()
        self.outcome.took_s = self.now
        return self.outcome

    def _move(self) -> None:
        while self.waiting and self._in_flight < self.most:
            given = self.pool.take(self.now, "m", tokens=int(self.waiting[-1]))
            if isinstance(given, Lease):
                self._send(given, self.waiting.pop())
                continue
            assert isinstance(given, Wait), given
            if given.until is not None and given.until < self._alarm_at:
                self._alarm_at = given.until
                self.at(given.until, self._ring)
            return

    def _ring(self) -> None:
        if self.now >= self._alarm_at:
            self._alarm_at = math.inf
            self._move()

    def _delay(self) -> float:
        return self.random.expovariate(1 / self.jitter_s) if self.jitter_s else 0.0

    def _send(self, lease: Lease, tokens: float) -> None:
        self._in_flight += 1
        self.outcome.most_in_flight = max(self.outcome.most_in_flight, self._in_flight)
        self.at(self.now + self._delay(), lambda: self._arrive(lease, tokens))

    def _arrive(self, lease: Lease, tokens: float) -> None:
        key = lease.key.name
        verdict, headers = self.server.judge(key, tokens, self.now)
        if verdict is not None:
            self.at(self.now + self._delay(), lambda: self._back(lease, tokens, verdict, headers))
            return
        self.server.in_flight += 1
        latency_s = self.server.latency(self.server.in_flight, self.random)

        def done() -> None:
            self.server.in_flight -= 1
            told = headers
            if self.server.tells_on_answer:
                limits = self.server.limits.get(key, [])
                for one in limits:
                    one.refill(self.now)
                told = self.server._headers(limits, self.now)
            self.at(self.now + self._delay(), lambda: self._back(lease, tokens, None, told))

        self.at(self.now + latency_s, done)

    def _back(
        self, lease: Lease, tokens: float, verdict: Verdict | None, headers: dict[str, str]
    ) -> None:
        self._in_flight -= 1
        self.pool.settle(lease, self.now, verdict, headers=headers, wall=lambda: WALL + self.now)
        if verdict is None:
            self.outcome.answered += 1
            self.outcome.by_key[lease.key.name] += 1
        else:
            self.waiting.append(tokens)
            self.outcome.refused += 1
            self.outcome.refused_by_key[lease.key.name] += 1
        self._move()


def entries(count: int, organization: str | None = None) -> list[KeyEntry]:
    return [
        KeyEntry(f"key {n}", Secret(f"sk-{n}"), organization=organization) for n in range(count)
    ]
