"""The first calls of a run: when all fail alike, it is the spec or the server, not the rows.

Without this, a wrong parameter would fail ten million rows one by one.
"""

from __future__ import annotations

from collections.abc import Callable

from gptflow.engine.events import CallRetried
from gptflow.errors import RunStopped
from gptflow.records import Failure, FailureKind, RowStatus
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent

ALIKE = 10
"""So many failures, all alike and no success among them, end the run."""

LASTING_ATTEMPT = 4
"""A server that cannot be reached counts from this attempt of a call on, some two seconds after
its first: a network that blinks fails every call in flight once."""


class FirstCalls:
    """Watches until the first call is answered. Sets `verdict`, once, if the run should stop."""

    def __init__(self) -> None:
        self.on_verdict: Callable[[bool], object] = lambda _: None
        """Called when the verdict falls, with whether a server answers at all: then calls in
        flight may be paid already."""
        self._answered = False
        self._alike: list[tuple[FailureKind, int | None, str | None, str]] = []
        self._unreachable = 0
        self.positions: list[int] = []
        """The rows that have failed: not by their own fault, if the run is stopped."""
        self.verdict: RunStopped | None = None

    def hear(self, event: RunEvent) -> None:
        """Listens to the run."""
        if self._answered:
            return
        if isinstance(event, CallAnswered):
            self._answered = True
        elif isinstance(event, RowEnded) and event.status is RowStatus.FAILED and event.failure:
            self._row_failed(event.position, event.failure)
        elif isinstance(event, CallRetried) and _is_lasting(event):
            self._no_connection(event.message)

    def _row_failed(self, position: int, failure: Failure) -> None:
        if failure.kind not in (FailureKind.REJECTED, FailureKind.TRANSPORT):
            self._answered = True  # a row's own failure: the server does answer
            return
        self.positions.append(position)
        self._alike.append((failure.kind, failure.status, failure.code, failure.message))
        if len(self._alike) >= ALIKE and len(set(self._alike)) == 1:
            self._stop(
                f"the first {len(self._alike)} calls all failed alike: {failure.message}",
                "mend the spec or the config and run again: these rows are not counted as failed",
                answers=True,
            )

    def _no_connection(self, reason: str) -> None:
        self._unreachable += 1
        if self._unreachable >= ALIKE:
            self._stop(
                f"no server answers: {reason}",
                "check base_url in config.json and that the server runs, then run again",
                answers=False,
            )

    def _stop(self, message: str, hint: str, *, answers: bool) -> None:
        if self.verdict is None:
            self.verdict = RunStopped(message, hint=hint)
            self.on_verdict(answers)


def _is_lasting(event: CallRetried) -> bool:
    """Whether a call that gets no answer at all has been tried for a while."""
    return event.status is None and event.attempt >= LASTING_ATTEMPT
