"""The limits of a run: decides when one is reached. The run then ends well, to be gone on with."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from gptflow.engine.duration import duration
from gptflow.errors import RunStopped
from gptflow.runner.events import RowEnded, RunEvent
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
        if self.left_s is not None and self.left_s <= 0:
            self.expire()
        self._judge_rows()

    def hear(self, event: RunEvent) -> None:
        """Listens to the run, behind the tally."""
        if isinstance(event, RowEnded):
            self._judge_rows()

    def expire(self) -> None:
        """The time is over."""
        ran = duration(self._clock() - self._began_s)
        stop = RunStopped(f"limits.wall_s is reached: the command has worked for {ran}")
        self.reach(Reached("limits.wall_s", stop))

    def _judge_rows(self) -> None:
        failed, ended = self._tally.failed, self._tally.failed + self._tally.done
        most, percent = self._limits.failed_rows, self._percent
        if percent is not None:
            if ended >= GRACE_ROWS and 100 * failed > percent * ended:
                self._reach_failed_rows(
                    f"{failed:,} of {ended:,} rows failed ({100 * failed / ended:.1f} %), "
                    f"{most} allowed"
                )
        elif isinstance(most, int) and failed > most:
            self._reach_failed_rows(f"{counted(failed, 'row')} failed, {most:,} allowed")

    def _reach_failed_rows(self, standing: str) -> None:
        stop = RunStopped(
            f"limits.failed_rows is reached: {standing}",
            hint="mend what they fail of and ask them again by --retry failed, or raise the limit",
        )
        self.reach(Reached("limits.failed_rows", stop, ("--retry", "failed")))

    def reach_cost(self, spent_usd: float, reserved_usd: float, next_usd: float) -> RunStopped:
        """There is no room for a call that may cost `next_usd`; gives why the run stops.

        `reserved_usd`: for the calls in flight.
        """
        limit_usd = self._limits.cost_usd or 0.0
        more = f"limits.cost_usd={_raised(limit_usd, spent_usd + next_usd)}"
        spent = f"{_usd(spent_usd)} of {_usd(limit_usd)}{' (simulated)' * self._simulated} spent"
        if reserved_usd:
            spent += f", about {_usd(reserved_usd)} in flight"
        stop = RunStopped(
            f"limits.cost_usd is reached: {spent}; the next call may cost {_usd(next_usd)}",
            hint=f"raise it to go on: --set {more}",
        )
        self.reach(Reached("limits.cost_usd", stop, ("--set", more)))
        return stop

    def reach(self, reached: Reached) -> None:
        """Stops the run for a limit."""
        if self.reached is None:
            self.reached = reached
            self._fallen.set()


def _usd(usd: float) -> str:
    """Money to the digit that matters: $12.50, $0.05, $0.0375, $0.000012."""
    if usd >= 1 or not usd:
        return f"${usd:,.2f}"
    digits = f"{usd:.{2 - math.floor(math.log10(usd))}f}".rstrip("0")
    return f"${digits:0<4}"


def _raised(limit_usd: float, needed_usd: float) -> str:
    """The double, or more where that is not enough, as a person would write it."""
    usd = 2 * (limit_usd if limit_usd >= needed_usd / 2 else needed_usd)
    digit = 10.0 ** math.floor(math.log10(usd))
    return f"{math.ceil(usd / digit - 1e-9) * digit:.12g}"
