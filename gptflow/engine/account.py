"""What has rate limits: an organization with all its keys, or a key without one."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from gptflow.engine.backoff import doubled
from gptflow.engine.bucket import BLIND_PACE, BUNCH_S, Bucket, Mark, Since
from gptflow.engine.learned_rate import LearnedRate
from gptflow.engine.limit_headers import REQUESTS, TOKENS, LimitReader, Told
from gptflow.engine.limits import StatedLimit, stated_limit
from gptflow.engine.quota import Quota, ResetWatch
from gptflow.engine.verdicts import Verdict

LONGEST_GUESS_S = 60.0
"""The longest rest of a key whose server does not say when to come back."""
UNLIMITED = sys.maxsize
FEW = 4
"""Calls that go before anything is known."""
_MORE = 1
"""How many more each answer lets in, as long as nothing is known: they double each round trip."""
_AHEAD = 1.25
"""They are spread over the round trip, a little faster than their answers come."""
_PLENTY = 1024
"""Who had so many answers at a time without a word about limits has none that matter."""
_TRUSTED = 4
"""Refusals in a row after which calls are let back one by one, whatever is known of the limits."""
_AT_A_TIME = 2.0
"""How many calls may leave together where they are spread over time."""
_MOMENT_S = 0.05
"""In this time a server has refused what it will of the calls that are on their way."""
_BURST_S = 1.0
"""What a limit that stands only in config.json is taken to hold: most servers allow that."""


class Bunch:
    """Calls that left at about the same time: they may arrive in any order."""

    __slots__ = ("at", "requests", "requests_before", "tokens", "tokens_before")

    def __init__(self, at: float, requests: int, tokens: float) -> None:
        self.at = at
        self.requests_before = self.requests = requests
        self.tokens_before = self.tokens = tokens


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A call that left, as its account counts."""

    at: float
    number: int
    """How many had left, with it."""
    tokens: float
    """What it was estimated at."""
    tokens_before: float
    """What all were estimated at, with it."""
    marks: dict[str, Mark]
    """Of each limit that was known as it left."""
    bunch: Bunch
    spell: int
    """The stretch of time between two rests in which it left."""


class Account:
    """The limits that a server counts together, and where calls stand with them."""

    def __init__(self) -> None:
        self.until = 0.0
        """When its rest ends."""
        self.spell = 0
        """How often it has rested."""
        self.is_bold = False
        """Whether a first answer that tells no limit lets all in: somebody chose how many."""
        self.load = 0
        self.admits = FEW
        self.requests = 0
        """Calls sent so far."""
        self.tokens = 0.0
        """What they were estimated at."""
        self.buckets: dict[str, Bucket | Quota] = {}
        self._watches: defaultdict[str, ResetWatch] = defaultdict(ResetWatch)
        self.reader = LimitReader()
        self.waiting: list[str] = []
        """Names of keys without a call in flight that wait until another one's lease comes back."""
        self._refusals = 0
        """Rests since the last success."""
        self._refused = 0
        self._closed = 0
        """Rests since a call was admitted."""
        self._admitted = 0
        """Calls that had been admitted at the last refusal."""
        self._heard = -math.inf
        """When the newest calls left whose answers told limits."""
        self._bunch = Bunch(-math.inf, 0, 0.0)
        self._learned: LearnedRate | None = None
        self._pace_per_s = math.inf
        self._next_at = -math.inf
        self._round_trip_s = math.inf
        self._began = False

    @property
    def has_rate(self) -> bool:
        """Whether a rate is known, or was guessed."""
        return bool(self.buckets or (self._learned and self._learned.per_s))

    def begin_knowing(self) -> None:
        """Lets calls go at once: the person who wrote the key has told its limits."""
        self.admits = UNLIMITED

    def ready_at(self, now: float, tokens: float) -> float:
        """When a call may go; a time gone by if it may at once."""
        at = max(self.until, self._next_at)
        for unit, bucket in self.buckets.items():
            ready = bucket.ready_at(1.0 if unit == REQUESTS else tokens)
            at = max(at, ready)
        if at > now and self._learned and self._pace_per_s < math.inf:
            self._learned.grow(now, self.requests - self._refused)
            self._pace_per_s = self._learned.per_s or self._pace_per_s
        return at

    def send(self, now: float, tokens: float) -> Sent:
        """Counts a call that leaves."""
        if self._learned is None:
            self._learned = LearnedRate(now)
        self.load += 1
        self.requests += 1
        self.tokens += tokens
        marks = {
            unit: bucket.spend(now, 1.0 if unit == REQUESTS else tokens)
            for unit, bucket in self.buckets.items()
        }
        if self._pace_per_s < math.inf:
            earliest = now - _AT_A_TIME / self._pace_per_s
            self._next_at = max(self._next_at, earliest) + 1 / self._pace_per_s
        bunch = self._bunch
        if now - bunch.at > BUNCH_S:
            bunch = self._bunch = Bunch(now, self.requests - 1, self.tokens - tokens)
        bunch.requests = self.requests
        bunch.tokens = self.tokens
        return Sent(now, self.requests, tokens, self.tokens, marks, bunch, self.spell)

    def full_at(self) -> float:
        """When all its limits would be full again: the earlier, the more room."""
        return max((bucket.full_at() for bucket in self.buckets.values()), default=-math.inf)

    def hear(self, sent: Sent, now: float, limits: Iterable[Told], *, charged: bool) -> None:
        """Corrects the mirrored limits by what the response to a call tells.

        `charged`: it was served, so that something was taken out for it.
        """
        if sent.bunch.at < self._heard:
            return
        self._heard = sent.bunch.at
        for told in limits:
            bucket = self.buckets.get(told.unit)
            if isinstance(bucket, Bucket) and self._watches[told.unit].is_window(told):
                bucket = self.buckets[told.unit] = Quota(bucket.ratio)
            if bucket is None:
                per_s = (told.limit or told.remaining + 1) / 60
                bucket = Bucket(per_s, told.remaining, now, learns_ratio=told.unit != REQUESTS)
                self.buckets[told.unit] = bucket
            bucket.observe(told, now, self._since(sent, told.unit), charged=charged)
        if all(b.is_sure for b in self.buckets.values()):
            self._let_all_in()

    def _since(self, sent: Sent, unit: str) -> Since:
        bunch, mark = sent.bunch, sent.marks.get(unit)
        if unit == REQUESTS:
            before = sent.number - 1 - bunch.requests_before
            after = bunch.requests - sent.number
            later = self.requests - sent.number
            return Since(sent.at, mark, sent.number, before, after, later)
        total = sent.tokens_before
        earlier = total - sent.tokens - bunch.tokens_before
        return Since(sent.at, mark, total, earlier, bunch.tokens - total, self.tokens - total)

    def answered(self, sent: Sent, now: float) -> None:
        """Lets more calls in after one that was served."""
        if sent.spell != self.spell:  # was sent before the rest: says nothing about now
            return
        self._refusals = 0
        self._round_trip_s = min(self._round_trip_s, now - sent.at)
        if self.admits < UNLIMITED:
            self.admits += _MORE
            trusts = self.is_bold and not self.buckets and not self._refused
            if trusts or self.admits >= _PLENTY:
                self._let_all_in()
            elif self._learned is None or self._learned.per_s is None:
                self._pace_per_s = _over(_AHEAD * self.admits, self._round_trip_s)
        if self._learned and self._learned.per_s and not self.buckets:
            self._pace_per_s = self._learned.per_s

    def slept(self, slept_s: float) -> None:
        """Counts time for which `now` has stood still: rests go by, and limits fill."""
        self.until -= slept_s
        self._next_at -= slept_s
        for bucket in self.buckets.values():
            bucket.slept(slept_s)

    def hold(self, now: float) -> None:
        """Lets nothing go for a moment, in which the fate of the calls on their way is told."""
        self._next_at = max(self._next_at, now + _MOMENT_S)

    def refused(self, sent: Sent, now: float, verdict: Verdict) -> bool:
        """Rests after a refusal. Returns whether it is the first of its burst."""
        first = sent.spell == self.spell
        self._refused += 1
        self.tokens -= sent.tokens  # was charged nothing: it must not make the others seem cheap
        if first:
            self.spell += 1
            self._refusals += 1
            admitted = self.requests - self._refused
            self._closed = self._closed + 1 if admitted <= self._admitted else 0
            self._admitted = admitted
        else:
            self._admitted -= 1
            if self._learned:
                self._learned.also_refused()
        # A server that refuses again right after the moment it named is not taken at its word.
        wait_s = verdict.wait_s
        if wait_s is None:
            rest_s = doubled(
                1.0, self._closed if self.has_rate else self._refusals - 1, LONGEST_GUESS_S
            )
        elif self._refusals > 1:
            rest_s = max(wait_s, doubled(0.05, self._refusals - 1, LONGEST_GUESS_S))
        else:
            rest_s = wait_s
        self.until = max(self.until, now + rest_s)
        stated = stated_limit(verdict.message)
        if stated:
            self._learn_stated(stated, sent, now)
        self._sink(verdict, sent, now)
        if first:
            self._slow_down(now)
        return first

    def _slow_down(self, now: float) -> None:
        if self.buckets:
            self.admits = UNLIMITED if self._refusals <= _TRUSTED else 1
            for bucket in self.buckets.values():
                bucket.widen()
        else:
            learned = self._learned or LearnedRate(now)
            ramp_per_s = _over(self.load, self._round_trip_s) if self._round_trip_s else 0.0
            learned.refused(now, self.requests, self._refused, self.until, ramp_per_s)
            self._learned = learned
            trusted = learned.per_s is not None and self._refusals <= _TRUSTED
            self.admits = UNLIMITED if trusted else 1
            self._pace_per_s = learned.per_s or math.inf
        self._next_at = self.until

    def _sink(self, verdict: Verdict, sent: Sent, now: float) -> None:
        """At the end of the rest there is room for one call such as the refused one, no more."""
        message = verdict.message.lower()
        by_tokens, by_requests = "token" in message, "request" in message
        for unit, bucket in self.buckets.items():
            estimate = 1.0 if unit == REQUESTS else sent.tokens
            if unit in sent.marks:
                bucket.refund(now, estimate)
            blamed = by_requests if unit == REQUESTS else by_tokens
            if blamed or by_tokens == by_requests:
                bucket.sink(now, self.until, estimate)

    def _learn_stated(self, stated: StatedLimit, sent: Sent, now: float) -> None:
        unit = TOKENS if stated.of_tokens else REQUESTS
        bucket = self.buckets.get(unit)
        per_s = stated.per_minute / 60
        if bucket is None:
            bucket = Bucket(per_s, per_s * _BURST_S, now, learns_ratio=stated.of_tokens)
            self.buckets[unit] = bucket
        if isinstance(bucket, Bucket) and bucket.pace == BLIND_PACE:
            bucket.per_s = per_s
            if stated.of_tokens and stated.requested and sent.tokens:
                bucket.ratio = stated.requested / sent.tokens

    def _let_all_in(self) -> None:
        if self._refusals == 0:
            self.admits = UNLIMITED
        self._pace_per_s = math.inf
        self._next_at = -math.inf


def told_limits(rpm: int | None, tpm: int | None, now: float) -> dict[str, Bucket]:
    """The limits of a key that its entry in config.json tells."""
    told = {REQUESTS: rpm, TOKENS: tpm}
    return {
        unit: Bucket(
            limit / 60,
            max(1.0, limit / 60 * _BURST_S),
            now,
            learns_ratio=False,
        )
        for unit, limit in told.items()
        if limit
    }


def _over(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else math.inf
