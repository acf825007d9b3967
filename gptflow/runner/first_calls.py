"""The first calls of a run: when all fail alike, it is the spec or the server, not the rows.

Without this, a wrong parameter would fail ten million rows one by one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from gptflow.engine.attempt import FaultKind
from gptflow.engine.events import CallRetried, ConfigBroken, KeysChanged, KeyUsed
from gptflow.errors import RunStopped
from gptflow.records import Failure, FailureKind, Row
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent

ALIKE = 10
"""So many failures, all alike and no success among them, end the run."""

MANY = 10_000
"""So many end it also while one of the first rows still waits for its answer, which may hang."""

LASTING_ATTEMPT = 4
"""A server that cannot be reached counts from this attempt of a call on, some two seconds after
its first: a network that blinks fails every call in flight once."""

_DIGITS = re.compile(r"\d+")
_UNASKED = frozenset(
    {
        FailureKind.TEMPLATE,
        FailureKind.INVALID,
        FailureKind.HOOK,
        FailureKind.WORKER,
        FailureKind.BUG,
    }
)
"""Failures that say nothing of the server: it was not asked, or its reply has told already."""
_SUSPECT = frozenset({FailureKind.REJECTED, FailureKind.TRANSPORT})


class _Signature(NamedTuple):
    """What failures have in common that are alike."""

    kind: FailureKind
    status: int | None
    code: str | None
    message: str

    @classmethod
    def of(cls, failure: Failure) -> _Signature:
        if failure.kind is FailureKind.TRANSPORT:  # the same cable, whatever each host's words
            return cls(failure.kind, None, None, "")
        # "your messages have 9131 tokens" is alike for every row.
        message = _DIGITS.sub("0", failure.message)
        return cls(failure.kind, failure.status, failure.code, message)


class FirstCalls:
    """Listens until the first call is answered. The verdict, if any, falls once.

    A refusal comes at once and an answer after seconds: so the rows that were begun first must all
    have failed, and not only some that came after them.
    """

    def __init__(self) -> None:
        self.verdict: RunStopped | None = None
        self.positions: list[int] = []
        """The rows that have failed: not by their own fault, if the run is stopped."""
        self._fallen = asyncio.Event()
        self._acquitted = False
        self._first: _Signature | None = None
        self._has_proof = False
        self._enrolled = 0
        self._awaited: set[int] = set()
        """The rows that were begun first, as far as they have not failed."""
        self._connected = False
        """Whether any attempt came further than to the door of a server."""
        self._lasting_faults = 0
        self._used_keys: set[str] = set()
        self._dead_keys: set[str] = set()

    async def fall(self) -> RunStopped:
        """Waits for the verdict, which may never come: why the run should stop."""
        while self.verdict is None:
            await self._fallen.wait()
        return self.verdict

    def trust_spec(self) -> None:
        """The run has had answers before: what a server rejects now is the row's fault."""
        self._has_proof = True

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows as they are begun, of which the first are watched."""
        for row in rows:
            if self._enrolled < ALIKE:
                self._enrolled += 1
                self._awaited.add(row.position)
            yield row

    def hear(self, event: RunEvent) -> None:
        """Listens to the run."""
        if self._acquitted:
            return
        match event:
            case CallAnswered():
                if not event.reused:
                    self._acquit()
            case RowEnded():
                if event.failure is not None and event.failure.kind not in _UNASKED:
                    self._row_failed(event.position, event.failure)
                elif event.position in self._awaited:  # it says nothing: the next one counts
                    self._awaited.remove(event.position)
                    self._enrolled -= 1
            case KeyUsed():
                self._used_keys.add(event.key_name)
            case CallRetried(fault=FaultKind.CONNECT):
                self._not_connected(event)
            case KeysChanged() | ConfigBroken():
                pass
            case _:  # some server had a word to say, if not the one that was hoped for
                self._connected = True

    def _row_failed(self, position: int, failure: Failure) -> None:
        signature = _Signature.of(failure)
        self._first = self._first or signature
        is_own_fault = self._has_proof and failure.kind is FailureKind.REJECTED
        is_alike = failure.kind in _SUSPECT and signature == self._first and not is_own_fault
        if self.verdict is None and not is_alike:
            self._acquit()
            return
        self.positions.append(position)
        self._awaited.discard(position)
        failed = len(self.positions)
        if failed >= MANY or (failed >= ALIKE and not self._awaited):
            self._stop(
                f"the first {ALIKE} calls all failed alike: {failure.message}",
                "mend the spec or the config and run again: these rows are not counted as failed",
            )

    def _not_connected(self, event: CallRetried) -> None:
        """One more call has found no server. Those of a key that has found one are no evidence."""
        if event.attempt < LASTING_ATTEMPT:
            return
        self._lasting_faults += 1
        self._dead_keys.add(event.key_name)
        is_everywhere = not self._connected and self._dead_keys >= self._used_keys
        if is_everywhere and self._lasting_faults >= ALIKE:
            self._stop(
                f"no server answers: {event.message}",
                "check base_url in config.json and that the server runs, then run again",
            )

    def _acquit(self) -> None:
        """The rows answer for themselves from now on."""
        if self.verdict is None:
            self._acquitted = True
            self.positions.clear()

    def _stop(self, message: str, hint: str) -> None:
        if self.verdict is None:
            self.verdict = RunStopped(message, hint=hint)
            self._fallen.set()


class Stopped(Protocol):
    """What is stopped by the verdict."""

    def stop(self, reason: RunStopped) -> None:
        """Lets no call be sent any more."""


@asynccontextmanager
async def heeded(first_calls: FirstCalls, engine: Stopped) -> AsyncIterator[None]:
    """Stops the engine when the verdict falls meanwhile. Calls on the wire come back first.

    Raises:
        RunStopped: the verdict.
    """

    async def heed() -> None:
        engine.stop(await first_calls.fall())

    watch = asyncio.ensure_future(heed())
    try:
        yield
    except RunStopped:
        if first_calls.verdict is None:
            raise
    finally:
        watch.cancel()
    if first_calls.verdict is not None:
        raise first_calls.verdict
