"""What a run shows to a person while it goes on, whatever the screen is."""

from __future__ import annotations

import logging
from typing import Protocol

from gptflow.runner.begin import Beginning
from gptflow.runner.events import RunEvent
from gptflow.runner.forecast import Forecast
from gptflow.runner.prepare import Prepared
from gptflow.runner.tally import Tally


class Display(Protocol):
    """Shows a run. All methods are called on the thread of the run.

    None of them raises: a run does not end because nobody can see it.
    """

    def begin(
        self, prepared: Prepared, beginning: Beginning, tally: Tally, foreseen: Forecast | None
    ) -> None:
        """Called once, before the first call."""

    def update(self, tally: Tally) -> None:
        """Called every quarter of a second."""

    def hear(self, event: RunEvent) -> None:
        """Called for each event; quick."""

    def say(self, line: str) -> None:
        """Called, from any thread, with a line that is news."""

    def draining(self, in_flight: int, limit: str = "") -> None:
        """Called with the calls that are waited for: at the first Ctrl-C, or at a limit."""

    def end(self) -> None:
        """Called when nothing moves any more."""


class NoDisplay:
    """Shows nothing: for runs that a program starts. What went wrong beside the run is logged."""

    def begin(
        self, prepared: Prepared, beginning: Beginning, tally: Tally, foreseen: Forecast | None
    ) -> None:
        """Shows nothing."""

    def update(self, tally: Tally) -> None:
        """Shows nothing."""

    def hear(self, event: RunEvent) -> None:
        """Shows nothing."""

    def say(self, line: str) -> None:
        """A warning of the logger `gptflow`."""
        logging.getLogger("gptflow").warning("%s", line)

    def draining(self, in_flight: int, limit: str = "") -> None:
        """Shows nothing."""

    def end(self) -> None:
        """Shows nothing."""
