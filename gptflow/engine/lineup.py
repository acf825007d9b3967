"""The keys that serve one model, in the order in which they should be taken.

Two heaps: of the keys that may be ready, the best first; and of those that have to wait, the one
that wakes first. A key's place is looked at again only as it comes to the top, so that nothing
that happens to a key costs more than the logarithm of their number. A single key needs no line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from gptflow.engine.standing import Rank, Standing

EARLY_S = 0.0005
"""A timer may ring so much before its time."""

_MUCH_BUSIER = 4


class _Slot:
    """A key's place in a lineup. Of its entries in the heaps only that of its version counts."""

    __slots__ = ("is_ready", "key", "rank", "version")

    def __init__(self, key: Standing) -> None:
        self.key = key
        self.version = 0
        self.is_ready = False
        self.rank: Rank = (0.0, 0.0)


_Ready = tuple[float, float, int, int, int, _Slot]
_Later = tuple[float, int, int, _Slot]


class Lineup:
    """The line of keys for a model."""

    def __init__(self, keys: Iterable[Standing]) -> None:
        self._slots = {key.name: _Slot(key) for key in keys}
        self._ready: list[_Ready] = []
        self._later: list[_Later] = []
        self._entries = 0
        self._only = next(iter(self._slots.values())).key if len(self._slots) == 1 else None
        for slot in self._slots.values():
            self._offer(slot)

    def __len__(self) -> int:
        return len(self._slots)

    def best(
        self, now: float, tokens: float, prefer: str | None, avoid: str | None
    ) -> Standing | float:
        """The key to take, or when to look again; infinity: only after a lease came back.

        A key that is given has to be put back by `offer`.
        """
        if self._only:
            at = self._only.ready_at(now, tokens)
            return self._only if at <= now + EARLY_S else at
        self._wake(now)
        chosen = self._pop(now, tokens, avoid)
        if chosen is None:
            return self._next_wake()
        if prefer is None or prefer in (avoid, chosen.key.name):
            return chosen.key
        liked = self._slots.get(prefer)
        if liked is None or liked.key.ready_at(now, tokens) > now + EARLY_S:
            return chosen.key
        key = liked.key
        if not key.is_known and key.load > 2 * chosen.key.load + _MUCH_BUSIER:
            return chosen.key
        self._offer(chosen)
        self._withdraw(liked)
        return key

    def offer(self, key: Standing) -> None:
        """Puts a key in its place again, after anything happened to it."""
        if self._only:
            return
        slot = self._slots.get(key.name)
        if slot is None or slot.key is not key:
            return
        if not slot.is_ready or key.rank() < slot.rank:
            self._offer(slot)

    def drop(self, key: Standing) -> None:
        """Takes a key out for good."""
        slot = self._slots.get(key.name)
        if slot is not None and slot.key is key:
            self._withdraw(slot)
            del self._slots[key.name]

    def _pop(self, now: float, tokens: float, avoid: str | None) -> _Slot | None:
        """Takes the best key out of the heap that may go now."""
        ready = self._ready
        spare: _Slot | None = None
        while ready:
            first, second, _, _, version, slot = ready[0]
            if version != slot.version:
                heappop(ready)
                continue
            rank = slot.key.rank()
            heappop(ready)
            if rank > (first, second):  # something was taken out of it meanwhile
                self._offer(slot)
                continue
            self._withdraw(slot)
            at = slot.key.ready_at(now, tokens)
            if at > now + EARLY_S:
                self._park(slot, at)
            elif slot.key.name == avoid:
                spare = slot
            else:
                if spare:
                    self._offer(spare)
                return slot
        return spare

    def _offer(self, slot: _Slot) -> None:
        slot.version += 1
        slot.is_ready = True
        slot.rank = first, second = slot.key.rank()
        self._entries += 1
        heappush(self._ready, (first, second, slot.key.used, self._entries, slot.version, slot))
        if len(self._ready) > 4 * len(self._slots) + 64:
            self._ready = [entry for entry in self._ready if entry[4] == entry[5].version]
            heapify(self._ready)

    def _park(self, slot: _Slot, at: float) -> None:
        if at == math.inf:
            if not slot.key.load:  # nothing of its own will come back and wake it
                slot.key.account.waiting.append(slot.key.name)
            return
        self._entries += 1
        heappush(self._later, (at, self._entries, slot.version, slot))
        if len(self._later) > 4 * len(self._slots) + 64:
            self._later = [entry for entry in self._later if entry[2] == entry[3].version]
            heapify(self._later)

    def _withdraw(self, slot: _Slot) -> None:
        slot.version += 1
        slot.is_ready = False

    def _wake(self, now: float) -> None:
        later = self._later
        while later and later[0][0] <= now + EARLY_S:
            _, _, version, slot = heappop(later)
            if version == slot.version:
                self._offer(slot)

    def _next_wake(self) -> float:
        later = self._later
        while later and later[0][2] != later[0][3].version:
            heappop(later)
        return later[0][0] if later else math.inf
