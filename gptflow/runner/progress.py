"""Progress: a live bar on a terminal, one plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO, cast

from gptflow.engine.duration import duration
from gptflow.runner.begin import Beginning
from gptflow.runner.display import Display, NoDisplay
from gptflow.runner.events import RunEvent
from gptflow.runner.forecast import Forecast
from gptflow.runner.key_line import KeyLine
from gptflow.runner.news import news
from gptflow.runner.prepare import Prepared
from gptflow.runner.price import Prices
from gptflow.runner.screen import Screen
from gptflow.runner.tally import Tally
from gptflow.runner.words import counted, money, token_count
from gptflow.spec.showable import showable

if TYPE_CHECKING:
    from rich.live import Live

PLAIN_INTERVAL_S = 10.0
PRICE_INTERVAL_S = 2.0
SPAN_S = 30.0
"""The stretch of time that the speed is measured over."""
SILENCE_S = 5.0
"""A stop this long, and twice as long as those before it, has no end that could be foretold."""
Clock = Callable[[], float]


def choose_display(stream: TextIO | None, *, quiet: bool = False) -> Display:
    """The display that fits a stream; None where the process has no such stream."""
    if quiet or stream is None:
        return NoDisplay()
    return LiveDisplay(stream) if Screen(stream).isatty() else PlainDisplay(stream)


class Meter:
    """Turns a tally into the figures of a line: speed, time left, price."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._ends: deque[float] = deque([clock()])
        """When rows were seen to have ended; the beginning counts as such a time."""
        self._priced_s = clock()
        self._cost_usd: float | None = None
        self.is_paid = True
        self.prices = Prices()

    @classmethod
    def of(cls, prepared: Prepared, clock: Clock = time.monotonic) -> Meter:
        """The meter of a run."""
        meter = cls(clock)
        meter.is_paid = not prepared.choice.name
        meter.prices = Prices.of_spec(prepared.spec)
        return meter

    def figures(self, tally: Tally) -> list[str]:
        """The figures after the bar, in the order of their weight; those without news left out."""
        self.look(tally)
        rows_per_s = self._rows_per_s()
        parts = [f"{rows_per_s:,.0f} rows/s" if rows_per_s >= 10 else f"{rows_per_s:.1f} rows/s"]
        if rows_per_s and tally.pending and not self._is_stuck():
            parts.append(f"{duration(tally.pending / rows_per_s)} left")
        if away := tally.away():
            parts.insert(0, away)
        if tally.reused_calls:
            parts.append(f"{counted(tally.reused_calls, 'call')} reused")
        if tally.total_tokens:
            parts.append(f"{token_count(tally.total_tokens)} tokens")
        price = self._price(tally)
        if price:
            parts.append(money(price))
        if tally.failed:
            parts.append(f"{tally.failed:,} failed")
        if tally.retries:
            parts.append(f"{tally.retries:,} retried")
        return parts

    def look(self, tally: Tally) -> None:
        """Notes how many rows have ended. The more often, the better the figures."""
        now = self._clock()
        if tally.ended_here != self._looks[-1][1]:
            self._ends.append(now)
        self._looks.append((now, tally.ended_here))
        while len(self._looks) > 2 and now - self._looks[1][0] >= SPAN_S:
            self._looks.popleft()
        while len(self._ends) > 3 and now - self._ends[0] >= SPAN_S:
            self._ends.popleft()

    def _rows_per_s(self) -> float:
        """The speed of the last half minute: what came before tells nothing after an outage."""
        (since_s, before), (now, ended) = self._looks[0], self._looks[-1]
        return (ended - before) / max(now - since_s, 1e-6)

    def _is_stuck(self) -> bool:
        """Whether no row has ended for long, though rows used to end more often than that."""
        longest_s = max((later - earlier for earlier, later in pairwise(self._ends)), default=0.0)
        return self._looks[-1][0] - self._ends[-1] > max(SILENCE_S, 2 * longest_s)

    def _price(self, tally: Tally) -> float | None:
        """The price so far; looked up every two seconds, and not in the first two."""
        if self.is_paid and self._clock() - self._priced_s >= PRICE_INTERVAL_S:
            self._priced_s = self._clock()
            self._cost_usd = self.prices.of_tally(tally)
        return self._cost_usd


def opening_lines(
    prepared: Prepared, beginning: Beginning, tally: Tally, foreseen: Forecast | None
) -> list[str]:
    """What a run says before its first call: what it is, who answers, what is reused."""
    parts = [counted(tally.rows, "row"), counted(len(prepared.plan.steps), "step")]
    if prepared.choice.mock:
        parts.append("SIMULATED: nothing is asked, nothing is paid")
    elif prepared.choice.local:
        parts.append(f"{prepared.choice.name.removeprefix('local:')} on this machine")
    elif prepared.config is not None:
        parts += [*prepared.plan.models, counted(len(prepared.config.keys), "key")]
    if prepared.spec.parallelism.mode != "async":
        parts.append(f"mode {prepared.spec.parallelism.mode}")
    lines = [f"{prepared.spec.name}: {', '.join(parts)}"]
    if prepared.config is not None:
        lines += prepared.config.notes
    if beginning.retried_rows:
        lines.append(f"asks {counted(beginning.retried_rows, 'row')} again")
    elif not beginning.is_new and tally.pending and tally.done + tally.failed:
        lines.append(f"goes on: {counted(tally.done + tally.failed, 'row')} ended before")
    reused = _reuse_words(beginning, foreseen)
    return [*lines, reused] if reused else lines


def _reuse_words(beginning: Beginning, foreseen: Forecast | None) -> str:
    """What of earlier work is reused, and what is left to pay; empty where nothing is."""
    parts = []
    if beginning.reused_rows:
        parts.append(counted(beginning.reused_rows, "row"))
    if foreseen and foreseen.reused_calls:
        about = "" if foreseen.is_exact else "about "
        parts.append(about + counted(foreseen.reused_calls, "call"))
    if not parts:
        return ""
    words = f"reuses {' and '.join(parts)} of earlier runs"
    if foreseen is None:
        return words
    least, most = foreseen.least_calls, foreseen.most_calls
    span = "" if least == most else f"{least:,} to "
    return f"{words}; {span}{counted(most, 'call')} to pay"


class PlainDisplay:
    """Lines of plain text: for log files and pipes."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._screen = Screen(stream)
        self._clock = clock
        self._meter = Meter(clock)
        self._shown_s = clock()
        self._shown = (0, "")
        """Rows and batches, as the last line had them."""

    def begin(
        self, prepared: Prepared, beginning: Beginning, tally: Tally, foreseen: Forecast | None
    ) -> None:
        """Says what the run is."""
        self._meter = Meter.of(prepared, self._clock)
        for line in opening_lines(prepared, beginning, tally, foreseen):
            self.say(line)

    def update(self, tally: Tally) -> None:
        """One line every ten seconds."""
        self._meter.look(tally)
        if self._clock() - self._shown_s >= PLAIN_INTERVAL_S:
            self._shown_s = self._clock()
            ended, away = tally.done + tally.failed, tally.away()
            if away and (ended, away) == self._shown:
                return  # a batch may take a day
            self._shown = ended, away
            self.say(f"{ended:,}/{tally.rows:,}  {'  '.join(self._meter.figures(tally))}")

    def hear(self, event: RunEvent) -> None:
        """News of the keys and the server are told at once."""
        words = news(event)
        if words:
            self.say(words)

    def draining(self, in_flight: int, limit: str = "") -> None:
        """Says what is waited for."""
        self.say(draining_words(in_flight, limit))

    def end(self) -> None:
        """Nothing is left to close."""

    def say(self, line: str) -> None:
        """Writes a line."""
        self._screen.write(f"{showable(line)}\n")


class LiveDisplay:
    """A bar that moves: for terminals."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        screen = cast("TextIO", Screen(stream))
        self._console = Console(file=screen, highlight=False, emoji=False)
        self._key_line = KeyLine()
        self._live: Live = Live(console=self._console, auto_refresh=False, transient=True)
        self._meter = Meter()

    def begin(
        self, prepared: Prepared, beginning: Beginning, tally: Tally, foreseen: Forecast | None
    ) -> None:
        """Says what the run is, and starts the bar."""
        self._meter = Meter.of(prepared)
        for line in opening_lines(prepared, beginning, tally, foreseen):
            self.say(line)
        self._live.start()
        self.update(tally)

    def update(self, tally: Tally) -> None:
        """Draws the bar anew."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        ended = tally.done + tally.failed
        line = Table.grid(padding=(0, 2))
        figures = [f"{ended:,}/{tally.rows:,}", *self._meter.figures(tally)]
        bar = ProgressBar(total=max(tally.rows, 1), completed=ended, width=32)
        line.add_row(bar, *(Text(figure, no_wrap=True) for figure in figures))
        keys = showable(self._key_line.text(tally.keys()))
        shown = Group(line, Text(keys, no_wrap=True, overflow="ellipsis")) if keys else line
        self._live.update(shown, refresh=True)

    def hear(self, event: RunEvent) -> None:
        """News of the keys and the server are told above the bar."""
        words = news(event)
        if words:
            self.say(words)

    def say(self, line: str) -> None:
        """Writes a line above the bar."""
        self._console.print(showable(line), markup=False)

    def draining(self, in_flight: int, limit: str = "") -> None:
        """Says what is waited for."""
        self._console.print(draining_words(in_flight, limit), markup=False)

    def end(self) -> None:
        """Takes the bar away: the report follows."""
        self._live.stop()


def draining_words(in_flight: int, limit: str = "") -> str:
    """What the first Ctrl-C is answered with, or what is said at a limit of that name."""
    if limit:
        waiting = f"; waiting for {counted(in_flight, 'call')} in flight" if in_flight else ""
        return f"stopping: {limit} is reached{waiting}"
    if not in_flight:
        return "stopping"
    return (
        f"stopping: waiting up to 30 s for {counted(in_flight, 'call')} in flight; "
        "Ctrl-C again stops now, and these are asked again later"
    )
