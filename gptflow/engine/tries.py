"""What a call has tried so far."""

from __future__ import annotations

from gptflow.engine.attempt import TransportFault
from gptflow.engine.keys import Lease
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.records import FailureKind

LONGEST_HISTORY = 8
"""The attempts that a failure tells of: the last ones."""
MOST_STOPS = 3
"""A machine that is this often too busy to notice a deadline is charged for it."""


class Tries:
    """The attempts of one call. Most calls need one, and keep nothing."""

    __slots__ = ("_charged_at", "_fruitless", "_stops", "_told", "avoid", "sent")

    def __init__(self) -> None:
        self.sent = 0
        """Requests."""
        self.avoid: str | None = None
        """Name of the key on which the last one failed."""
        self._charged_at: list[float] = []
        self._fruitless: dict[FailureKind, int] = {}
        """Attempts that cost money or time for nothing, by what they failed as."""
        self._told: list[str] = []
        self._stops = 0

    @property
    def charged(self) -> int:
        """Attempts that count towards the most that a call may have."""
        return len(self._charged_at)

    def are_enough(self, verdict: Verdict, attempts: int) -> bool:
        """Whether the call is not to be sent again after this verdict, which is noted already."""
        fruitless = self._fruitless.get(verdict.failure, 0)
        return self.charged >= attempts or (
            verdict.tries is not None and fruitless >= verdict.tries
        )

    def was_stopped(self, fault: TransportFault) -> bool:
        """Whether the fault is that of this process, which stood still, and to be passed over."""
        self._stops += fault.was_stopped
        return fault.was_stopped and self._stops <= MOST_STOPS

    @property
    def history(self) -> tuple[str, ...]:
        """The last failed attempts in their order: key, status and message of each."""
        return tuple(self._told)

    def note(self, lease: Lease, verdict: Verdict, charged_at: float | None) -> None:
        """Notes a failed attempt, and when it was charged, if it was."""
        status = f"{verdict.status} " if verdict.status else ""
        self._told.append(f"{lease.key.name}: {status}{verdict.message}")
        del self._told[:-LONGEST_HISTORY]
        if charged_at is not None:
            self._charged_at.append(charged_at)
        if verdict.tries is not None:
            self._fruitless[verdict.failure] = self._fruitless.get(verdict.failure, 0) + 1
        if verdict.kind is VerdictKind.RETRY:
            self.avoid = lease.key.name

    def forgive(self, since: float) -> None:
        """Takes the charges back from a moment on: it was an outage, and no fault of the call."""
        self._charged_at = [moment for moment in self._charged_at if moment < since]
