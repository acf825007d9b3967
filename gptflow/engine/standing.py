"""Where a key stands: what it may do, what it has in flight, and what took it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from gptflow.engine.account import FEW, UNLIMITED, Account, Sent, told_limits
from gptflow.engine.bucket import Bucket
from gptflow.engine.config import KeyEntry
from gptflow.engine.limit_headers import REQUESTS, TOKENS
from gptflow.engine.quota import Quota
from gptflow.engine.reach import Reach
from gptflow.engine.verdicts import Verdict
from gptflow.engine.window import Window
from gptflow.records import Usage

Rank = tuple[float, float]
"""What decides among keys: the lowest is the best."""

_CROWDED_BURSTS, _SOON_S = 2, 2.0
"""So many bursts of refusals, each so soon after the one before, are not for calls in flight."""


class KeyState(msgspec.Struct, frozen=True):
    """How a key stands, for those who show it."""

    name: str
    word: str
    """ready, resting, exhausted or retired."""
    in_flight: int
    limits: tuple[tuple[str, float], ...] = ()
    """The limits that are known: what is limited (requests, tokens), and units a minute."""
    until: float | None = None
    """When its rest ends."""
    reason: str = ""
    """Why it is out."""


class Key:
    """One key of the pool: what holds for it whatever the model."""

    def __init__(self, entry: KeyEntry) -> None:
        self.entry = entry
        self.load = 0
        """Calls in flight, of all models."""
        self.most = entry.concurrency or UNLIMITED
        self.gone: Verdict | None = None
        self.reach = Reach()
        self.order: int | None = None
        """Its place in line, where keys are used one after the other."""
        self.own = told_limits(entry.rpm, entry.tpm, 0.0)
        """The limits that its entry tells. All models share them."""
        self.standings: dict[str, Standing] = {}
        """By model."""

    def may_serve(self, model: str) -> bool:
        """Whether it may be asked for a model at all."""
        return self.gone is None and (not self.entry.models or model in self.entry.models)

    def state(self, now: float) -> KeyState:
        """How it stands; its limits are those of the model that is asked most."""
        standings = sorted(self.standings.values(), key=lambda one: -one.account.requests)
        buckets: dict[str, Bucket | Quota] = {**self.own}
        if standings:
            buckets |= standings[0].account.buckets
        limits = tuple((unit, bucket.per_s * 60) for unit, bucket in buckets.items())
        until = min((one.account.until for one in standings), default=0.0)
        until = max(until, self.reach.until)
        if self.gone:
            return KeyState(
                self.entry.name, str(self.gone.kind), self.load, limits, reason=self.gone.message
            )
        if until > now:
            return KeyState(self.entry.name, "resting", self.load, limits, until)
        return KeyState(self.entry.name, "ready", self.load, limits)


class Standing:
    """Where one key stands with one model: providers count each model by itself."""

    def __init__(self, key: Key, account: Account, *, adaptive: bool) -> None:
        self.key = key
        self.account = account
        self.load = 0
        """Calls in flight, of this model."""
        self.used = 0
        """Which take of the pool was its last: the longest unused of equals comes first."""
        self.lack: Verdict | None = None
        """Why the key does not serve the model, where the server has said so."""
        self.window = Window() if adaptive else None
        if not adaptive:
            account.is_bold = True
        self._own = key.own
        self._is_rated = False
        self._crowded_at = -math.inf
        self._bursts = 0
        if self._own:
            account.begin_knowing()

    @property
    def name(self) -> str:
        """The key's name."""
        return self.key.entry.name

    @property
    def is_known(self) -> bool:
        """Whether any limit of it is known, so that there is a measure of its room."""
        return bool(self.account.buckets or self._own)

    def rank(self) -> Rank:
        """Its place among the keys: those without limits first, then the one with most room."""
        if self.key.order is not None:
            return (float(self.key.order), 0.0)
        if not self.is_known:
            return (0.0, float(self.load))
        full_at = self.account.full_at()
        for bucket in self._own.values():
            full_at = max(full_at, bucket.full_at())
        return (1.0, full_at)

    def ready_at(self, now: float, tokens: float) -> float:
        """When it may be taken: a time gone by if at once, infinity if a lease must come back."""
        account = self.account
        if self.key.load >= self.key.most or account.load >= account.admits:
            return math.inf
        if self.window and self.load >= self.window.size and not account.buckets:
            return math.inf
        at = max(account.ready_at(now, tokens), self.key.reach.until)
        for unit, bucket in self._own.items():
            at = max(at, bucket.ready_at(1.0 if unit == REQUESTS else tokens))
        return at

    def send(self, now: float, tokens: float) -> Sent:
        """Counts a call that leaves with it."""
        self.load += 1
        self.key.load += 1
        for unit, bucket in self._own.items():
            bucket.spend(now, 1.0 if unit == REQUESTS else tokens)
        return self.account.send(now, tokens)

    def hear(
        self,
        sent: Sent,
        now: float,
        headers: Mapping[str, str],
        wall: Callable[[], float] | None,
        *,
        failed: bool,
    ) -> None:
        """Learns the limits that a response tells. A failed one is always looked at."""
        told = self.account.reader.read(headers, now, wall or _no_date, surely=failed)
        if told:
            self.account.hear(sent, now, told, charged=not failed)

    def charge(self, now: float, sent: Sent, usage: Usage) -> None:
        """Takes the tokens of a call that nobody had estimated out of its entry's own limit."""
        bucket = self._own.get(TOKENS)
        if bucket is not None and sent.tokens <= 1:
            bucket.spend(now, (usage.prompt_tokens or 0) + (usage.completion_tokens or 0))

    def answered(self, sent: Sent, now: float, load_then: int) -> None:
        """Learns from a call that was served."""
        self.account.answered(sent, now)
        if self.window:
            self.window.answered(now, sent.at, load_then, self.load)

    def refused(self, sent: Sent, now: float, verdict: Verdict, load_then: int) -> bool:
        """Learns from a rate limit. Returns whether it is the first refusal of a burst."""
        if self.window and load_then > FEW and self._is_crowded(sent, now, verdict):
            self.window.overloaded(now, sent.at, load_then)
            self.account.hold(now)
            return False
        return self.account.refused(sent, now, verdict)

    def _is_crowded(self, sent: Sent, now: float, verdict: Verdict) -> bool:
        """Whether a refusal that names neither time nor limit may be for calls in flight alone.

        Then fewer calls help. Where they do not, it is a rate after all.
        """
        if verdict.wait_s is not None or self.account.has_rate or self._is_rated:
            return False
        if sent.at >= self._crowded_at:
            recent = now - self._crowded_at < _SOON_S
            self._bursts = self._bursts + 1 if recent else 1
            self._crowded_at = now
        if self._bursts <= _CROWDED_BURSTS:
            return True
        self._is_rated = True
        self.window = None  # it was cut for what it had no part in
        return False

    def overloaded(self, sent: Sent, now: float, load_then: int) -> None:
        """Learns from a server that says that it is busy."""
        if self.window:
            self.window.overloaded(now, sent.at, load_then)


def _no_date() -> float:
    return math.inf
