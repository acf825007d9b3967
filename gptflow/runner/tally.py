"""What a run has counted so far: the one listener that everything on screen is drawn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gptflow.engine.events import CallRetried, ReplyWasted
from gptflow.engine.standing import KeyState
from gptflow.records import RowStatus, Usage
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent


@dataclass(slots=True)
class TokenCount:
    """Tokens of one model."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def add(self, usage: Usage) -> None:
        """Counts a reply's usage, as far as it can be true: some servers send negative counts.

        Nothing is added for what is unknown, so the counts are a lower bound.
        """
        prompt = max(usage.prompt_tokens or 0, 0)
        self.prompt += prompt
        self.completion += max(usage.completion_tokens or 0, 0)
        self.cached += min(max(usage.cached_tokens or 0, 0), prompt)


class KeyShare(NamedTuple):
    """What one key does for the run."""

    state: KeyState
    answered: int
    """Calls that it has answered."""


@dataclass(slots=True)
class Tally:
    """Counts of one process's work on a run. `hear` is a run's listener."""

    rows: int = 0
    """All rows of the run."""
    done: int = 0
    """Done rows, those of earlier processes and runs included."""
    failed: int = 0
    reused_rows: int = 0
    """Rows that an earlier run had done."""
    calls: int = 0
    """Calls that were answered by a server."""
    reused_calls: int = 0
    """Calls that were answered by the store."""
    retries: int = 0
    ended_here: int = 0
    """Rows that this process has brought to an end: the speed is counted from these."""
    keys: Callable[[], Sequence[KeyShare]] = tuple
    """Looks at the keys as they stand."""
    away: Callable[[], str] = str
    """Says how far batches are that are with a provider; empty where there are none."""
    tokens: dict[str, TokenCount] = field(default_factory=lambda: defaultdict(TokenCount))
    """By model, of the calls that were answered by a server."""
    batched: dict[str, TokenCount] = field(default_factory=lambda: defaultdict(TokenCount))
    """Those of them that a run in another mode had of the Batch API, at the price of a batch."""

    @property
    def pending(self) -> int:
        """Rows that are neither done nor failed."""
        return self.rows - self.done - self.failed

    @property
    def total_tokens(self) -> int:
        """Tokens of all models, both ways."""
        return sum(count.prompt + count.completion for count in self.tokens.values())

    def hear_of_batch(self, event: RunEvent) -> None:
        """Counts an event of a batch that was called back; `hear` is told of it, too."""
        if isinstance(event, CallAnswered):
            self.batched[event.model].add(event.usage)

    def hear(self, event: RunEvent) -> None:
        """Counts an event."""
        if isinstance(event, CallAnswered):
            self._count_call(event)
        elif isinstance(event, RowEnded):
            self._count_row(event)
        elif isinstance(event, CallRetried):
            self.retries += 1
        elif isinstance(event, ReplyWasted):
            self.tokens[event.call.model].add(event.reply.usage)

    def _count_call(self, event: CallAnswered) -> None:
        if event.reused:
            self.reused_calls += 1
            return
        self.calls += 1
        self.tokens[event.model].add(event.usage)

    def _count_row(self, event: RowEnded) -> None:
        self.ended_here += 1
        if event.status is RowStatus.DONE:
            self.done += 1
        else:
            self.failed += 1
