"""The key pool: which key serves the next call, and when. Pure; the clock is passed in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Literal

import msgspec

from gptflow.engine.account import Account, Sent
from gptflow.engine.config import KeyEntry
from gptflow.engine.lineup import Lineup
from gptflow.engine.standing import Key, KeyState, Standing
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.records import Usage

Strategy = Literal["spread", "sequential"]
"""Whether calls go to the key with the most room, or to the first one that has any."""

_SERVED = frozenset({VerdictKind.REJECTED, VerdictKind.REFUSED})
_OUT = frozenset({VerdictKind.EXHAUSTED, VerdictKind.RETIRED})
_OVERLOADED = frozenset({503, 529})
_BY_PLACE = re.compile(r"key \d+")
_WOKEN = 2
"""Keys that are looked at again as a lease of their account comes back."""


class Lease(msgspec.Struct, frozen=True):
    """The right to send one call with a key. Is given back by `settle` or `release`."""

    key: KeyEntry
    model: str
    standing: Standing
    """The pool's own record of the key: outlives a change of the keys."""
    sent: Sent
    load: int
    """How many calls the key had in flight with it."""


class Wait(msgspec.Struct, frozen=True):
    """No key is free."""

    until: float | None
    """When one wakes; None: only when a lease is given back."""


class NoKey(msgspec.Struct, frozen=True):
    """No key will ever serve this model."""

    model: str
    reasons: tuple[tuple[KeyEntry, Verdict | None], ...]
    """Each key with the verdict that took it out; None where its entry names other models."""

    @property
    def recoverable(self) -> bool:
        """Whether a key that might serve the model is exhausted or retired.

        Then a new config.json can help, or money. Otherwise every usable key lacks the model.
        """
        return any(
            verdict is not None
            and verdict.kind in _OUT
            and (not entry.models or self.model in entry.models)
            for entry, verdict in self.reasons
        )


class KeyPool:
    """The states of all keys.

    A key is ready, resting, exhausted or retired, and may lack single models. Of the ready keys
    that serve a model the one whose limits have the most room is taken; while no limits are known
    the one with the fewest calls in flight, in turn from `start_index`.
    """

    def __init__(
        self,
        entries: Sequence[KeyEntry],
        start_index: int = 0,
        *,
        strategy: Strategy = "spread",
        adaptive: bool = False,
    ) -> None:
        """Build a pool of keys of which nothing is known yet.

        Args:
            entries: the keys.
            start_index: the key to begin with.
            strategy: `sequential` uses a key until it has no room, and only then the next one.
            adaptive: whether to find out how many calls a key should have in flight.
        """
        self._strategy = strategy
        self._adaptive = adaptive
        self._accounts: dict[Hashable, Account] = {}
        """By owner and model: what a server limits together."""
        self._known: dict[Hashable, Key] = {}
        """All that ever were, so that a retired key cannot come back by being left out once."""
        self._keys: dict[str, Key] = {}
        self._lineups: dict[str, Lineup] = {}
        self._takes = 0
        self.replace(entries, start_index)

    def replace(self, entries: Sequence[KeyEntry], start_index: int = 0) -> None:
        """Puts other entries in the place of these.

        What did not change keeps its state: an exhausted key stays so until its entry changes. A
        new or changed entry starts afresh. What is gone takes no new call; its leases may be
        given back as ever.
        """
        self._keys = {}
        for place, entry in enumerate((*entries[start_index:], *entries[:start_index])):
            key = self._known.setdefault(_identity(entry), Key(entry))
            key.entry = entry  # a key without a name is called after its place
            key.order = place if self._strategy == "sequential" else None
            self._keys[entry.name] = key
        self._lineups = {}

    def take(
        self,
        now: float,
        model: str,
        *,
        tokens: int = 0,
        prefer: str | None = None,
        avoid: str | None = None,
    ) -> Lease | Wait | NoKey:
        """A lease on the best key for a call, or why there is none.

        Args:
            now: seconds, on the same clock as in `settle`.
            model: the model that the call asks.
            tokens: an estimate of what the call will be charged; 0 if there is none. What is
                charged for a token of the estimate is learned.
            prefer: name of the key that the conversation is on, whose prompt cache knows it: it is
                taken as long as it has room, and is not much busier than another.
            avoid: name of the key on which the call has just failed: it is taken only if no other
                is free.
        """
        lineup = self._lineups.get(model)
        if lineup is None:
            lineup = self._lineups[model] = Lineup(self._serving(model))
        if not lineup:
            return self._no_key(model)
        estimate = float(tokens or 1)
        best = lineup.best(now, estimate, prefer, avoid)
        if not isinstance(best, Standing):
            return Wait(None if best == math.inf else best)
        sent = best.send(now, estimate)
        self._takes += 1
        best.used = self._takes
        lineup.offer(best)
        return Lease(best.key.entry, model, best, sent, best.load)

    def settle(
        self,
        lease: Lease,
        now: float,
        verdict: Verdict | None,
        *,
        headers: Mapping[str, str] | None = None,
        usage: Usage | None = None,
        wall: Callable[[], float] | None = None,
    ) -> bool:
        """Gives a lease back with what came of it.

        Args:
            lease: what `take` gave.
            now: seconds, on the same clock as in `take`.
            verdict: what was wrong; None is an answer.
            headers: of the response, where there was one: they tell the limits.
            usage: the tokens that the server counted: charged to the limit that the entry tells,
                where `take` was given no estimate.
            wall: seconds since 1970, for servers that name dates.

        Returns:
            Whether this changed the state of the key, which is true once for a burst of refusals.
        """
        key = lease.standing
        changed = False
        if headers is not None:
            key.hear(lease.sent, now, headers, wall, failed=verdict is not None)
        if usage is not None:
            key.charge(now, lease.sent, usage)
        kind = verdict.kind if verdict else None
        if kind is not VerdictKind.RETRY:
            key.key.reach.answered()
        if verdict is None or kind in _SERVED:
            key.answered(lease.sent, now, lease.load)
        elif kind is VerdictKind.REST:
            changed = key.refused(lease.sent, now, verdict, lease.load)
        elif kind is VerdictKind.NO_MODEL:
            changed, key.lack = key.lack is None, key.lack or verdict
            self._drop(key.key, [lease.model])
        elif kind in _OUT:
            whole = key.key
            changed, whole.gone = whole.gone is None, whole.gone or verdict
            self._drop(whole, list(self._lineups))
        elif verdict.status in _OVERLOADED:
            key.overloaded(lease.sent, now, lease.load)
        self._give_back(key)
        return changed

    def note_absence(self, lease: Lease, now: float, *, reached: bool) -> bool:
        """Notes that a call got no answer, before its lease is given back.

        Where another key's server answers, this key rests after a few of them: else it would draw
        the calls that wait for the other one, since it always has room.

        Args:
            lease: what `take` gave.
            now: seconds, on the same clock as in `take`.
            reached: whether there was a connection to a server.

        Returns:
            Whether another key answers that may serve the model.
        """
        key, model = lease.standing.key, lease.model
        is_elsewhere = any(
            other is not key and self._is_sure(other, model) for other in self._keys.values()
        )
        key.reach.failed(now, lease.sent.at, reached=reached, may_rest=is_elsewhere)
        return is_elsewhere

    def slept(self, slept_s: float) -> None:
        """Counts time for which `now` has stood still: rests go by, and limits fill."""
        for account in self._accounts.values():
            account.slept(slept_s)
        for key in self._keys.values():
            key.reach.until -= slept_s
        self._lineups = {}  # they know when each key wakes

    def in_service(self, now: float, model: str) -> frozenset[str]:
        """The names of the keys that serve a model and do not rest."""
        return frozenset(
            one.name
            for one in self._serving(model)
            if max(one.account.until, one.key.reach.until) <= now
        )

    def release(self, lease: Lease) -> None:
        """Gives a lease back without anything learnt: its call was cancelled."""
        self._give_back(lease.standing)

    def until(self, lease: Lease) -> float:
        """When the rest of a lease's key ends; a time gone by if it does not rest."""
        return max(lease.standing.account.until, lease.standing.key.reach.until)

    def outlook(self, now: float) -> tuple[KeyState, ...]:
        """How each key stands."""
        return tuple(key.state(now) for key in self._keys.values())

    def find_lack(self, model: str) -> NoKey | None:
        """Why no key will serve a model; None if one may."""
        return None if self._serving(model) else self._no_key(model)

    def _serving(self, model: str) -> list[Standing]:
        able = [key for key in self._keys.values() if key.may_serve(model)]
        standings = (self._standing(key, model) for key in able)
        return [standing for standing in standings if standing.lack is None]

    def _is_sure(self, key: Key, model: str) -> bool:
        """Whether the server of a key answers, and may serve a model."""
        if not (key.reach.is_sure and key.may_serve(model)):
            return False
        standing = key.standings.get(model)
        return standing is None or standing.lack is None

    def _standing(self, key: Key, model: str) -> Standing:
        standing = key.standings.get(model)
        if standing is None:
            account = self._accounts.setdefault((key.entry.account, model), Account())
            standing = Standing(key, account, adaptive=self._adaptive)
            key.standings[model] = standing
        return standing

    def _give_back(self, standing: Standing) -> None:
        account = standing.account
        standing.load -= 1
        standing.key.load -= 1
        account.load -= 1
        self._offer(standing.key)
        if account.waiting:
            woken = account.waiting if not account.load else account.waiting[:_WOKEN]
            account.waiting = account.waiting[len(woken) :]
            for name in woken:
                if name in self._keys:
                    self._offer(self._keys[name])

    def _offer(self, key: Key) -> None:
        for model, lineup in self._lineups.items():
            if model in key.standings:
                lineup.offer(key.standings[model])

    def _drop(self, key: Key, models: Sequence[str]) -> None:
        for model in models:
            if model in self._lineups and model in key.standings:
                self._lineups[model].drop(key.standings[model])

    def _no_key(self, model: str) -> NoKey:
        return NoKey(model, tuple((key.entry, _why_not(key, model)) for key in self._keys.values()))


def _why_not(key: Key, model: str) -> Verdict | None:
    standing = key.standings.get(model)
    return key.gone or (standing.lack if standing else None)


def _identity(entry: KeyEntry) -> Hashable:
    """All that an entry says. A name that is no more than its place says nothing."""
    return (
        None if _BY_PLACE.fullmatch(entry.name) else entry.name,
        entry.api_key.reveal(),
        entry.base_url,
        entry.organization,
        entry.models,
        (entry.rpm, entry.tpm, entry.concurrency, entry.timeout_s),
        tuple((name, value.reveal()) for name, value in entry.headers),
    )
