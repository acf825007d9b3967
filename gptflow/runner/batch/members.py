"""The keys of a batch run: which of them takes the next batch, and which can fetch one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gptflow.engine.config import KeyEntry
from gptflow.engine.events import Event, KeyExhausted, KeyRetired, ModelMissing
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped

FULL_S = 60.0
"""For so long no batch is offered to a queue that had no room, while none of ours is in it."""


def account_of(key: KeyEntry) -> str:
    """What a provider counts together and lets see each other's files. Safe to store."""
    return f"{key.host} {key.organization or f'key {key.name}'}"


@dataclass(slots=True)
class Member:
    """A key as it stands."""

    key: KeyEntry
    account: str
    out: str | None = None
    """Why it can take no batch any more."""
    is_retired: bool = False
    """Whether it cannot fetch one either."""
    lacks: dict[str, str] = field(default_factory=dict)
    """The models that it does not serve, with the server's words."""


class Members:
    """All keys. Those of one organization share what may be enqueued."""

    def __init__(
        self,
        keys: Sequence[KeyEntry],
        enqueued_tokens: int | None,
        now: Callable[[], float],
        emit: Callable[[Event], None],
    ) -> None:
        self._members = [Member(key, account_of(key)) for key in keys]
        self._most_tokens = enqueued_tokens
        self._now = now
        self._emit = emit
        self._tokens: Counter[tuple[str, str]] = Counter()
        """On their way, by account and model."""
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._full_until: dict[tuple[str, str], float] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    @property
    def are_retired(self) -> bool:
        """Whether no key is left that may look at a batch."""
        return all(member.is_retired for member in self._members)

    def named(self, name: str) -> Member | None:
        """The key of that name."""
        return next((member for member in self._members if member.key.name == name), None)

    def fetchers(self, key_name: str, account: str) -> list[Member]:
        """The keys that may be able to fetch what a key has submitted, the likeliest first."""
        able = [member for member in self._members if not member.is_retired]
        host = account.partition(" ")[0]
        ranked = [
            (member.key.name != key_name, member.account != account, member)
            for member in able
            if member.key.host == host or member.key.name == key_name
        ]
        ranked.sort(key=lambda entry: (entry[1], entry[0]))
        return [member for _, _, member in ranked]

    def decides(self, member: Member, key_name: str, account: str) -> bool:
        """Whether a key would see what `key_name` has submitted, if it were there.

        Another key of the organization is asked where that one is in no config any more: files are
        apart where a key belongs to another project.
        """
        own = self.named(key_name)
        if own is not None:
            return member is own and own.key.host == account.partition(" ")[0]
        return member.account == account

    def needed(self, key_name: str, what: str) -> RunStopped:
        """Why nothing can be said of what a key has submitted. `what`: what it would do."""
        if self.are_retired:
            return self.none_left()
        member = self.named(key_name)
        told = f": {member.out}" if member is not None and member.out else ""
        return RunStopped(
            f"key {key_name} is needed to {what}{told}",
            hint="put it back into config.json, or ask everything anew with --fresh",
        )

    def choose(self, model: str, tokens: int) -> Member | None:
        """The key with the least on its way that has room for a batch; None if all are full.

        Raises:
            RunStopped: no key will ever take it.
        """
        able = [member for member in self._members if self._serves(member, model)]
        if not able:
            raise self.none_left(model)
        free = [member for member in able if self.has_room(member.account, model, tokens)]
        return min(free, key=lambda one: self._tokens[one.account, model], default=None)

    def has_room(self, account: str, model: str, tokens: int) -> bool:
        """Whether so many tokens more may be enqueued."""
        enqueued = self._tokens[account, model]
        if self._full_until.get((account, model), 0.0) > self._now():
            return False
        return self._most_tokens is None or not enqueued or enqueued + tokens <= self._most_tokens

    def has_enqueued(self, account: str, model: str) -> bool:
        """Whether anything of ours is in this queue."""
        return self._tokens[account, model] > 0

    def count_refusal(self, account: str, model: str) -> int:
        """A queue that holds nothing of ours has had no room; how often in a row."""
        self._refusals[account, model] += 1
        return self._refusals[account, model]

    def enqueue(self, account: str, model: str, tokens: int) -> None:
        """So many tokens more are on their way."""
        self._tokens[account, model] += tokens

    def release(self, account: str, model: str, tokens: int) -> None:
        """So many tokens are out of the queue."""
        self._tokens[account, model] -= tokens
        self._full_until.pop((account, model), None)

    def forget_refusals(self, account: str, model: str) -> None:
        """This queue does take batches."""
        self._refusals.pop((account, model), None)

    def refuse_room(self, account: str, model: str) -> None:
        """The provider had no room: wait until something of ours is out of it, or for a while."""
        self._full_until[account, model] = self._now() + FULL_S

    def next_room_s(self) -> float | None:
        """Seconds until a queue may have room again of itself."""
        waits = [until - self._now() for until in self._full_until.values()]
        return min((wait_s for wait_s in waits if wait_s > 0), default=None)

    def lose(
        self, member: Member, model: str, verdict: Verdict, *, has_looked: bool = False
    ) -> None:
        """A key takes no batch any more, or none of this model.

        `has_looked`: it was refused a look at batches. Only then it is asked for none any more: one
        that may not write files may see them all the same.
        """
        name = member.key.name
        if verdict.kind is VerdictKind.NO_MODEL:
            if model not in member.lacks:
                member.lacks[model] = verdict.message
                self._emit(ModelMissing(name, model, verdict.message))
            return
        if member.out is None:
            is_spent = verdict.kind is VerdictKind.EXHAUSTED
            self._emit((KeyExhausted if is_spent else KeyRetired)(name, verdict.message))
        member.out = verdict.message
        member.is_retired |= has_looked and verdict.kind is VerdictKind.RETIRED

    def _serves(self, member: Member, model: str) -> bool:
        models = member.key.models
        return member.out is None and model not in member.lacks and (not models or model in models)

    def holders(self, account: str, key_name: str) -> Iterator[Member]:
        """The keys of an account that can take a batch; first the one that has uploaded it."""
        ranked = sorted(self._members, key=lambda one: one.key.name != key_name)
        return (one for one in ranked if one.account == account and one.out is None)

    def none_left(self, model: str = "") -> RunStopped:
        """Why no key takes a batch of a model, or any batch."""
        reasons = [
            f"  {member.key.name}: {member.out or member.lacks.get(model) or 'other models only'}"
            for member in self._members
        ]
        return RunStopped(
            "\n".join([f"no key takes a batch{f' of {model!r}' if model else ''}:", *reasons]),
            hint="mend the keys in config.json; batches need a key that may use files and batches",
        )
