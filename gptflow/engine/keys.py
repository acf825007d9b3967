"""The key pool: which key serves the next call, and when. Pure; the clock is passed in."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from gptflow.engine.backoff import doubled
from gptflow.engine.config import KeyEntry
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.records import Usage

Strategy = Literal["spread", "sequential"]
"""Whether calls go to the key with the most room, or to the first one that has any."""

LONGEST_GUESS_S = 60.0
"""The longest rest of a key whose server does not say when to come back."""
_UNLIMITED = sys.maxsize
_SERVED = frozenset({VerdictKind.REJECTED, VerdictKind.REFUSED})


class Lease(msgspec.Struct, frozen=True):
    """The right to send one call with a key. Is given back by `settle` or `release`."""

    key: KeyEntry
    model: str
    spell: int
    """The stretch of time between two rests of the key in which it was given."""


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
            and verdict.kind is not VerdictKind.NO_MODEL
            and (not entry.models or self.model in entry.models)
            for entry, verdict in self.reasons
        )


class KeyState(msgspec.Struct, frozen=True):
    """How a key stands."""

    name: str
    word: str
    """ready, resting, exhausted or retired."""
    in_flight: int
    rpm: float | None = None
    """Requests per minute that it is known to allow."""
    tpm: float | None = None
    until: float | None = None
    """When its rest ends."""
    reason: str = ""
    """Why it rests or is out."""


class _Account:
    """What has a rate limit: an organization with all its keys, or a key without one."""

    def __init__(self) -> None:
        self.until = 0.0
        self.spell = 0
        self.refusals = 0
        """Rests since the last success."""
        self.load = 0
        self.admits = _UNLIMITED


class _Key:
    def __init__(self, entry: KeyEntry, account: _Account) -> None:
        self.entry = entry
        self.account = account
        self.load = 0
        self.gone: Verdict | None = None
        self.lacks: dict[str, Verdict] = {}

    def serves(self, model: str) -> bool:
        named = not self.entry.models or model in self.entry.models
        return named and self.gone is None and model not in self.lacks


_Lineup = OrderedDict[str, _Key]
"""The keys that serve a model by name, the one that was taken longest ago first."""


class KeyPool:
    """The states of all keys.

    A key is ready, resting, exhausted or retired, and may lack single models. Among the ready keys
    that serve a model the one with the fewest calls in flight is taken, in turn from `start_index`.
    After a rest one call goes first, and each answered one lets one more in, so that they double
    with every round trip: who lets all waiters loose at once gets most of them refused again.
    """

    def __init__(
        self,
        entries: Sequence[KeyEntry],
        start_index: int = 0,
        *,
        strategy: Strategy = "spread",
        adaptive: bool = False,
    ) -> None:
        self._strategy = strategy
        self._adaptive = adaptive
        accounts: dict[tuple[str, str], _Account] = {}
        self._keys: dict[str, _Key] = {}
        for entry in (*entries[start_index:], *entries[:start_index]):
            limited_as = (entry.base_url, entry.organization or f"key {entry.name}")
            account = accounts.setdefault(limited_as, _Account())
            self._keys[entry.name] = _Key(entry, account)
        self._serving: dict[str, _Lineup] = {}

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
            tokens: an estimate of what the call will be charged; 0 if there is none.
            prefer: name of the key that the conversation is on, whose prompt cache knows it: it is
                taken unless it is much busier than another.
            avoid: name of the key on which the call has just failed: it is taken only if no other
                is free.
        """
        lineup = self._serving.get(model)
        if lineup is None:
            serving = ((name, key) for name, key in self._keys.items() if key.serves(model))
            lineup = self._serving[model] = OrderedDict(serving)
        if not lineup:
            return self._no_key(model)
        best = _least_busy(lineup, now, avoid)
        if best is None:
            wakes = [key.account.until for key in lineup.values() if key.account.until > now]
            return Wait(min(wakes, default=None))
        liked = lineup.get(prefer) if prefer is not None and prefer != avoid else None
        if liked is not None and _fits(liked, now) and liked.load <= 2 * best.load + 4:
            best = liked
        best.load += 1
        best.account.load += 1
        lineup.move_to_end(best.entry.name)
        return Lease(best.entry, model, best.account.spell)

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
        """Gives a lease back with what came of it; None is an answer.

        Returns whether this changed the state of the key, which is true once for a burst of
        refusals.
        """
        key = self._release(lease)
        if key is None:
            return False
        kind = verdict.kind if verdict else None
        if verdict is None or kind in _SERVED:
            _recover(key.account, lease)
        elif kind is VerdictKind.REST:
            return _rest(key.account, lease, now, verdict.wait_s)
        elif kind is VerdictKind.NO_MODEL:
            self._serving.clear()
            return key.lacks.setdefault(lease.model, verdict) is verdict
        elif kind in (VerdictKind.EXHAUSTED, VerdictKind.RETIRED):
            self._serving.clear()
            news, key.gone = key.gone is None, key.gone or verdict
            return news
        return False

    def release(self, lease: Lease) -> None:
        """Gives a lease back without anything learnt: its call was cancelled."""
        self._release(lease)

    def replace(self, entries: Sequence[KeyEntry], start_index: int = 0) -> None:
        """Puts other entries in place of these; what did not change keeps its state."""
        self.__init__(entries, start_index, strategy=self._strategy, adaptive=self._adaptive)  # type: ignore[misc]

    def outlook(self, now: float) -> tuple[KeyState, ...]:
        """How each key stands."""
        return tuple(_state(key, now) for key in self._keys.values())

    def until(self, lease: Lease) -> float:
        """When the rest of a lease's key ends; a time gone by if it does not rest."""
        key = self._keys.get(lease.key.name)
        return key.account.until if key else 0.0

    def _release(self, lease: Lease) -> _Key | None:
        key = self._keys.get(lease.key.name)
        if key is not None:
            key.load -= 1
            key.account.load -= 1
        return key

    def _no_key(self, model: str) -> NoKey:
        keys = self._keys.values()
        return NoKey(model, tuple((key.entry, key.gone or key.lacks.get(model)) for key in keys))


def _least_busy(lineup: _Lineup, now: float, avoid: str | None) -> _Key | None:
    best: _Key | None = None
    spare: _Key | None = None
    for name, key in lineup.items():
        if not _fits(key, now):
            continue
        if name == avoid:
            spare = key
        elif best is None or key.load < best.load:
            best = key
            if not key.load:  # nothing can be less busy: spares a thousand keys the look
                break
    return best or spare


def _state(key: _Key, now: float) -> KeyState:
    name, load, until = key.entry.name, key.load, key.account.until
    if key.gone:
        return KeyState(name, str(key.gone.kind), load, reason=key.gone.message)
    return KeyState(name, "resting" if until > now else "ready", load, until=until)


def _fits(key: _Key, now: float) -> bool:
    account = key.account
    return account.until <= now and account.load < account.admits


def _recover(account: _Account, lease: Lease) -> None:
    if lease.spell != account.spell:  # was sent before the rest: says nothing about now
        return
    account.refusals = 0
    if account.admits < _UNLIMITED:
        account.admits += 1


def _rest(account: _Account, lease: Lease, now: float, wait_s: float | None) -> bool:
    first = lease.spell == account.spell
    if first:
        account.spell += 1
        account.refusals += 1
        account.admits = 1
    # A server that refuses again right after the moment it named is not taken at its word.
    guess_s = doubled(1.0, account.refusals - 1, LONGEST_GUESS_S)
    rest_s = guess_s if wait_s is None or (account.refusals > 1 and wait_s < guess_s) else wait_s
    account.until = max(account.until, now + rest_s)
    return first
