"""Hands out leases on keys to the calls that wait for one, in the order of their arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gptflow.engine.clock import Clock
from gptflow.engine.keys import KeyPool, Lease, NoKey, Wait
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped
from gptflow.records import Usage

_WORDS = {
    VerdictKind.EXHAUSTED: "spent",
    VerdictKind.RETIRED: "out",
    VerdictKind.NO_MODEL: "does not serve it",
}
"""What became of a key, as a person reads it everywhere."""


LONGEST_ALARM_S = 60.0
"""A timer stands still while the machine sleeps: after so long the lines look at the clock again,
lest they wait for hours that have gone by."""
_SHORT_SLEEP_S = 1.0


class _Waiter(NamedTuple):
    number: int
    tokens: int
    prefer: str | None
    avoid: str | None
    lease: asyncio.Future[Lease]


class Dispatcher:
    """The line of waiting calls, one for each model.

    A call that waits holds neither a connection nor a place among `max_in_flight`. Nothing polls:
    the line moves when a lease comes back, and when a key's rest ends.
    """

    def __init__(
        self,
        pool: KeyPool,
        clock: Clock,
        max_in_flight: int,
        origin: str,
        on_no_key: Callable[[NoKey], bool] | None = None,
    ) -> None:
        """Build an empty line.

        Args:
            pool: the keys.
            clock: where time comes from.
            max_in_flight: the most leases that are out at a time.
            origin: where the keys are written, for messages.
            on_no_key: is told that no key is left for a model. True keeps its line waiting until
                `move` is called; False fails it.
        """
        self._origin = origin
        self._on_no_key = on_no_key or (lambda _: False)
        self._dry: set[str] = set()
        """Models whose lines wait for other keys."""
        self._pool = pool
        self._clock = clock
        self._free = max_in_flight
        self._lines: dict[str, deque[_Waiter]] = {}
        self._arrivals = 0
        self._waiting = 0
        self._stopped: RunStopped | None = None
        self._draining: RunStopped | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = 0.0
        self._asleep_s = clock.asleep()

    @property
    def in_line(self) -> int:
        """How many calls wait."""
        return self._waiting

    async def lease(
        self, model: str, *, tokens: int = 0, prefer: str | None = None, avoid: str | None = None
    ) -> Lease:
        """A lease for a call, as soon as its turn has come.

        Raises:
            RunStopped: no key is left that serves this model.
        """
        if self._stopped:
            raise self._stopped.again()
        line = self._lines.setdefault(model, deque())
        if not line and self._free:
            now = self._clock.now()
            given = self._pool.take(now, model, tokens=tokens, prefer=prefer, avoid=avoid)
            if isinstance(given, Lease):
                self._free -= 1
                return given
        if self._draining:
            raise self._draining.again()
        self._arrivals += 1
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(self._arrivals, tokens, prefer, avoid, future)
        line.append(waiter)
        self._waiting += 1
        try:
            self._move()
            return await waiter.lease
        except asyncio.CancelledError:
            late = waiter.lease
            if late.done() and not late.cancelled() and not late.exception():
                self.release(late.result())
            elif waiter in line:  # else calls with a time limit would pile up in a long pause
                line.remove(waiter)
            raise
        finally:
            self._waiting -= 1

    def settle(
        self,
        lease: Lease,
        verdict: Verdict | None,
        *,
        headers: Mapping[str, str] | None = None,
        usage: Usage | None = None,
    ) -> bool:
        """Gives a lease back with what came of it. Returns whether the key's state changed."""
        try:
            return self._pool.settle(
                lease,
                self._clock.now(),
                verdict,
                headers=headers,
                usage=usage,
                wall=self._clock.wall,
            )
        finally:
            self._give_back()

    def release(self, lease: Lease) -> None:
        """Gives a lease back whose call was cancelled."""
        self._pool.release(lease)
        self._give_back()

    def move(self) -> None:
        """Serves the lines as far as keys are free: after the pool has got other keys."""
        self._dry = {model for model in self._dry if self._is_dry(model)}
        self._move()

    def stop(self, reason: RunStopped) -> None:
        """Lets every call that waits, or will, fail with `reason`."""
        self._stopped = reason
        for line in self._lines.values():
            _fail(line, reason)

    def give_up(self, reason: RunStopped) -> None:
        """Lets the calls fail with `reason` that wait for other keys. Later ones may wait again."""
        while self._dry:
            _fail(self._lines[self._dry.pop()], reason)

    def drain(self, reason: RunStopped) -> None:
        """Lets every call fail with `reason` that has to wait, now or from now on."""
        self._draining = reason
        for line in self._lines.values():
            _fail(line, reason)

    def close(self) -> None:
        """Cancels the calls that still wait, and the alarm."""
        for line in self._lines.values():
            for waiter in line:
                waiter.lease.cancel()
            line.clear()
        if self._alarm:
            self._alarm.cancel()

    def _give_back(self) -> None:
        self._free += 1
        if any(self._lines.values()):
            self._move()

    def _move(self) -> None:
        """Serves each line as far as keys are free, the longest waiting head first."""
        self._note_sleep()
        lines = [
            (line[0].number, model)
            for model, line in self._lines.items()
            if line and model not in self._dry
        ]
        for _, model in sorted(lines):
            self._serve(model, self._lines[model])

    def _note_sleep(self) -> None:
        """Shortens the rests of the keys by what the machine has slept: the servers have not."""
        slept_s = self._clock.asleep() - self._asleep_s
        if slept_s > _SHORT_SLEEP_S:
            self._asleep_s += slept_s
            self._pool.slept(slept_s)

    def _is_dry(self, model: str) -> bool:
        """Whether calls of a model wait, and are to wait on, for other keys."""
        lost = self._pool.find_lack(model) if self._lines[model] else None
        return lost is not None and self._on_no_key(lost)

    def _serve(self, model: str, line: deque[_Waiter]) -> None:
        while line and self._free:
            head = line[0]
            if head.lease.done():  # its call was cancelled
                line.popleft()
                continue
            now = self._clock.now()
            given = self._pool.take(
                now, model, tokens=head.tokens, prefer=head.prefer, avoid=head.avoid
            )
            match given:
                case Lease():
                    self._free -= 1
                    line.popleft().lease.set_result(given)
                case NoKey() if self._on_no_key(given):
                    self._dry.add(model)
                    return
                case NoKey():
                    _fail(line, no_key_left(given, self._origin))
                case Wait(until):
                    if until is not None:
                        self._wake(until, now)
                    return

    def _wake(self, until: float, now: float) -> None:
        """Lets the lines move again at `until`, if no earlier alarm is set."""
        if self._alarm and not self._alarm.done() and self._alarm_at <= until:
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm_at = until
        self._alarm = asyncio.create_task(self._ring(until - now))

    async def _ring(self, delay_s: float) -> None:
        await self._clock.sleep(min(delay_s, LONGEST_ALARM_S))
        self._alarm = None
        self._move()


def _fail(line: deque[_Waiter], reason: RunStopped) -> None:
    while line:
        waiter = line.popleft()
        if not waiter.lease.done():
            waiter.lease.set_exception(reason.again())


def no_key_left(lost: NoKey, origin: str) -> RunStopped:
    """Says of each key why it cannot serve the model."""
    lines = [f"no API key is left that serves {lost.model!r}"]
    hints: dict[str, None] = {}
    for entry, verdict in lost.reasons:
        lines.append(f"  {entry.name} ({entry.api_key}): {_why(verdict, entry.models)}")
        if verdict and verdict.hint:
            hints[verdict.hint] = None
    hints[f"mend {origin}, then run the same command again: what is done is kept"] = None
    return RunStopped("\n".join(lines), hint="; ".join(hints))


def _why(verdict: Verdict | None, models: tuple[str, ...]) -> str:
    if verdict is None:
        return f"its entry names only {', '.join(models)}"
    word = _WORDS.get(verdict.kind, str(verdict.kind))
    status = f", {verdict.status}" if verdict.status else ""
    return f"{word}{status}: {verdict.message}"
