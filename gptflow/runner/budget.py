"""The limits of a run: decides when one is reached. The run then ends well, to be gone on with."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from gptflow.engine.duration import duration
from gptflow.errors import RunStopped
from gptflow.records import RowStatus
from gptflow.runner.tally import Tally
from gptflow.runner.words import counted
from gptflow.spec.model import LimitsSpec

GRACE_ROWS = 50
"""Of fewer rows no share is judged: of the first two one may well fail."""


class Reached(NamedTuple):
    """A limit that a run has reached."""

    limit: str
    """Its name: "limits.wall_s"."""
    stop: RunStopped
    """Why the run stops, for a person."""
    options: tuple[str, ...] = ()
    """What the same command needs in addition to go on."""


class Budget:
    """Says when a limit is reached. That happens once: the first one counts."""

    def __init__(
        self,
        limits: LimitsSpec,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
        *,
        simulated: bool = False,
    ) -> None:
        """Begin to count time.

        Args:
            limits: the spec's.
            tally: what the run has counted.
            clock: seconds. A monotonic one: nobody means to stop a run by setting the clock.
            simulated: whether the money is not real.
        """
        self.reached: Reached | None = None
        self._limits = limits
        self._simulated = simulated
        self._percent = limits.failed_percent
        self._tally = tally
        self._clock = clock
        self._began_s = clock()
        self._done = self._failed = 0
        """The rows that have ended, also those that are not on disk yet."""
        self._tell: Callable[[], Reached] | None = None
        self._fallen = asyncio.Event()

    @property
    def left_s(self) -> float | None:
        """Seconds that the command may go on for; None for as long as it takes."""
        if self._limits.wall_s is None:
            return None
        return self._limits.wall_s - (self._clock() - self._began_s)

    async def fall(self) -> Reached:
        """Waits for a limit to be reached, which may never come."""
        while self.reached is None:
            await self._fallen.wait()
        return self.reached

    def look(self) -> None:
        """Judges by the time and the rows as they stand, before the first call."""
        self._done, self._failed = self._tally.done, self._tally.failed
        if self.left_s is not None and self.left_s <= 0:
            self.expire()
        self._judge_rows()

    def count(self, status: RowStatus) -> None:
        """A row has ended. It is judged before it is on disk: until then others would begin."""
        if status is RowStatus.DONE:
            self._done += 1
        else:
            self._failed += 1
        self._judge_rows()

    def expire(self) -> None:
        """The time is over."""
        self._reach(self._expired)

    def reach_cost(self, spent_usd: float, reserved_usd: float, next_usd: float) -> RunStopped:
        """There is no room for a call that may cost `next_usd`; gives why the run stops.

        `reserved_usd`: for the calls in flight.
        """
        no_room = partial(self._no_room, spent_usd, reserved_usd, next_usd)
        self._reach(no_room)
        return no_room().stop

    def conclude(self) -> RunStopped:
        """Why the run stops, in the words and numbers of its end; a limit has been reached."""
        assert self._tell is not None
        self.reached = self._tell()
        return self.reached.stop

    def _reach(self, tell: Callable[[], Reached]) -> None:
        """Stops the run for the limit that `tell` tells of, now and once more at the end."""
        if self.reached is None:
            self._tell = tell
            self.reached = tell()
            self._fallen.set()

    def _judge_rows(self) -> None:
        if self._is_exceeded():
            self._reach(partial(self._too_many, self._failed, self._failed + self._done))

    def _is_exceeded(self) -> bool:
        failed, ended = self._failed, self._failed + self._done
        if self._percent is not None:
            return ended >= GRACE_ROWS and 100 * failed > self._percent * ended
        most = self._limits.failed_rows
        return isinstance(most, int) and failed > most

    def _too_many(self, failed: int, ended: int) -> Reached:
        """`failed` of `ended` rows when the limit was reached; those in flight end after that."""
        most, later = self._limits.failed_rows, ", before the rows in flight ended"
        if self._is_exceeded():
            failed, ended, later = self._failed, self._failed + self._done, ""
        if self._percent is None:
            standing = f"{counted(failed, 'row')} failed, {most:,} allowed"
        else:
            share = f"{100 * failed / ended:.1f} %"
            standing = f"{failed:,} of {ended:,} rows failed ({share}), {most} allowed{later}"
        stop = RunStopped(
            f"limits.failed_rows is reached: {standing}",
            hint="mend what they fail of and ask them again by --retry failed, or raise the limit",
        )
        return Reached("limits.failed_rows", stop, ("--retry", "failed"))

    def _expired(self) -> Reached:
        ran_s = self._clock() - self._began_s
        message = f"limits.wall_s is reached: the command has worked for {duration(ran_s)}"
        if self._tally.ended_here:
            return Reached("limits.wall_s", RunStopped(message))
        # The same command would come as far as this one: to nothing.
        limits = self._limits
        wall_s = _rounded(max(2 * (limits.wall_s or 0.0), 2 * ran_s, limits.timeout_s), digits=2)
        more = f"limits.wall_s={wall_s}"
        stop = RunStopped(
            f"{message}, in which no row has ended", hint=f"give it more time: --set {more}"
        )
        return Reached("limits.wall_s", stop, ("--set", more))

    def _no_room(self, spent_usd: float, reserved_usd: float, next_usd: float) -> Reached:
        limit_usd = self._limits.cost_usd or 0.0
        more = f"limits.cost_usd={self._raised(limit_usd, spent_usd + reserved_usd, next_usd)}"
        spent = f"{_usd(spent_usd)} of {_usd(limit_usd)}{' (simulated)' * self._simulated} spent"
        if reserved_usd:
            spent += f", about {_usd(reserved_usd)} in flight"
        stop = RunStopped(
            f"limits.cost_usd is reached: {spent}; the next call may cost {_usd(next_usd)}",
            hint=f"raise it to go on: --set {more}",
        )
        return Reached("limits.cost_usd", stop, ("--set", more))

    def _raised(self, limit_usd: float, paid_usd: float, next_usd: float) -> str:
        """What all rows may cost, by those that have ended; at least the double."""
        needed_usd = paid_usd + next_usd
        double_usd = 2 * (limit_usd if limit_usd >= needed_usd / 2 else needed_usd)
        tally = self._tally
        paid_rows = tally.done + tally.failed - tally.reused_rows
        all_usd = paid_usd * (1 + tally.pending / paid_rows) if paid_rows > 0 else 0.0
        if all_usd > double_usd:
            return _rounded(all_usd, digits=2)
        return _rounded(double_usd)


def _usd(usd: float) -> str:
    """Money to the digit that matters: $12.50, $0.05, $0.0375, $0.000012."""
    if usd >= 1 or not usd:
        return f"${usd:,.2f}"
    digits = f"{usd:.{2 - math.floor(math.log10(usd))}f}".rstrip("0")
    return f"${digits:0<4}"


def _rounded(number: float, digits: int = 1) -> str:
    """The number, or a little more, as a person would write it: 40, 0.00003."""
    decimals = digits - 1 - math.floor(math.log10(number))
    step = 10.0**-decimals
    text = f"{math.ceil(number / step - 1e-9) * step:.{max(decimals, 0)}f}"
    return text.rstrip("0").rstrip(".") if decimals > 0 else text
