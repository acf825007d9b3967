from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any, TextIO

import pytest

from gptflow.engine.config import Config
from gptflow.engine.events import KeyExhausted, KeyRested, KeyRetired, KeysSpent, ModelMissing
from gptflow.records import RowStatus
from gptflow.runner.begin import Beginning, begin
from gptflow.runner.display import Display, NoDisplay
from gptflow.runner.events import RowEnded
from gptflow.runner.forecast import Forecast
from gptflow.runner.prepare import Prepared
from gptflow.runner.progress import (
    LiveDisplay,
    Meter,
    PlainDisplay,
    choose_display,
    draining_words,
    opening_lines,
)
from gptflow.runner.server import keyless_config
from gptflow.runner.tally import Tally, TokenCount
from gptflow.store.store import Store
from tests.runner.conftest import SPEC, Folder


@dataclass
class HandClock:
    """A clock that is moved by hand."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(StringIO):
    """Says of itself that it is a terminal."""

    def isatty(self) -> bool:
        return True


def metered(after_s: float, tally: Tally, *, is_paid: bool = True) -> list[str]:
    clock = HandClock()
    meter = Meter(clock)
    meter.is_paid = is_paid
    clock.now_s += after_s
    return meter.figures(tally)


# ------------------------------------------------------------------ the figures


def test_speed_and_time_left_come_from_the_rows_that_ended_here() -> None:
    tally = Tally(rows=1_000, done=400, failed=100, ended_here=100)
    assert metered(10, tally) == ["10 rows/s", "50 s left", "100 failed"]


def test_a_slow_run_has_a_decimal() -> None:
    assert metered(100, Tally(rows=10, done=5, ended_here=5))[:2] == ["0.1 rows/s", "1:40 min left"]


def test_nothing_is_said_of_what_is_not_there() -> None:
    assert metered(1, Tally(rows=10)) == ["0.0 rows/s"]


def test_no_time_is_left_when_every_row_has_ended() -> None:
    assert metered(1, Tally(rows=20, done=20, ended_here=20)) == ["20 rows/s"]


def test_calls_tokens_price_and_retries_are_told_where_there_are_any() -> None:
    tokens = {"gpt-4o-mini": TokenCount(prompt=1_000_000, completion=1_000_000)}
    tally = Tally(rows=1, done=1, reused_calls=1_200, retries=3, tokens=tokens)
    assert metered(1, tally)[1:] == ["1,200 calls reused", "2.0M tokens", "3 retried"]
    assert metered(2, tally)[1:] == ["1,200 calls reused", "2.0M tokens", "$0.750", "3 retried"]


@pytest.mark.parametrize(("model", "is_paid"), [("gpt-4o-mini", False), ("unheard-of", True)])
def test_what_costs_nothing_or_nobody_knows_what_has_no_price(model: str, is_paid: bool) -> None:
    tally = Tally(rows=1, tokens={model: TokenCount(prompt=1_000_000)})
    assert metered(9, tally, is_paid=is_paid) == ["0.0 rows/s", "1.0M tokens"]


def test_the_price_is_looked_up_every_two_seconds_only() -> None:
    clock = HandClock()
    meter = Meter(clock)
    tally = Tally(tokens={"gpt-4o-mini": TokenCount(prompt=10_000_000)})
    shown = []
    for _ in range(5):
        clock.now_s += 1
        shown.append([figure for figure in meter.figures(tally) if figure.startswith("$")])
        tally.tokens["gpt-4o-mini"].prompt += 10_000_000
    assert shown == [[], ["$3.00"], ["$3.00"], ["$6.00"], ["$6.00"]]


# ------------------------------------------------------------------ the first lines


@pytest.fixture
def started(folder: Folder, store: Store) -> Callable[..., tuple[Prepared, Beginning, Tally]]:
    def start(prepared: Prepared | None = None, **changes: Any) -> tuple[Any, Any, Any]:
        prepared = prepared or folder.prepare(mock=False)
        run = begin(store, prepared, fresh=False, retry=None).run
        return prepared, Beginning(run, **{"is_new": True, **changes}), Tally(rows=run.rows)

    return start


Started = Callable[..., tuple[Prepared, Beginning, Tally]]


def with_keys(prepared: Prepared, count: int, *notes: str) -> Prepared:
    (key,) = keyless_config("http://127.0.0.1:1/v1", "any").keys
    config = Config((key,) * count, notes=notes)
    return Prepared(prepared.spec, prepared.plan, prepared.source, prepared.choice, config)


def test_a_run_says_what_is_odd_about_its_keys(folder: Folder, started: Started) -> None:
    prepared = with_keys(folder.prepare(mock=False), 1, "key 2 is left out")
    assert opening_lines(*started(prepared), None)[1:] == ["key 2 is left out"]


def test_a_run_says_what_it_is(folder: Folder, started: Started) -> None:
    one = with_keys(folder.prepare(mock=False), 1)
    assert opening_lines(*started(one), None) == ["reviews: 3 rows, 2 steps, gpt-4o-mini, 1 key"]
    three = with_keys(folder.prepare(SPEC[: SPEC.index("  - name: apology")], mock=False), 3)
    folder.write_texts("one")
    assert opening_lines(*started(three), None) == ["reviews: 1 row, 1 step, gpt-4o-mini, 3 keys"]


def test_a_rehearsal_says_that_it_is_none(folder: Folder, started: Started) -> None:
    (line,) = opening_lines(*started(folder.prepare()), None)
    assert line == "reviews: 3 rows, 2 steps, SIMULATED: nothing is asked, nothing is paid"


@pytest.mark.parametrize(
    ("changes", "foreseen", "line"),
    [
        ({"retried_rows": 1}, None, "asks 1 row again"),
        ({"reused_rows": 2_000}, None, "reuses 2,000 rows of earlier runs"),
        (
            {"reused_rows": 40},
            Forecast(reused_calls=1, least_calls=3, most_calls=5),
            "reuses 40 rows and 1 call of earlier runs; 3 to 5 calls to pay",
        ),
        (
            {},
            Forecast(reused_calls=950, least_calls=50, most_calls=50),
            "reuses 950 calls of earlier runs; 50 calls to pay",
        ),
        (
            {},
            Forecast(reused_calls=950, least_calls=50, most_calls=50, is_exact=False),
            "reuses about 950 calls of earlier runs; 50 calls to pay",
        ),
    ],
)
def test_a_run_says_what_it_takes_over(
    started: Started, changes: dict[str, Any], foreseen: Forecast | None, line: str
) -> None:
    assert opening_lines(*started(**changes), foreseen)[1:] == [line]


def test_a_run_that_goes_on_tells_what_ended_before_if_anything_did(started: Started) -> None:
    prepared, beginning, tally = started(is_new=False)
    assert opening_lines(prepared, beginning, tally, None)[1:] == []
    tally.done, tally.failed = 1, 1
    lines = opening_lines(prepared, beginning, tally, None)
    assert lines[1:] == ["goes on: 2 rows ended before"]


def test_a_forecast_without_reuse_is_no_news(started: Started) -> None:
    assert len(opening_lines(*started(), Forecast(0, 3, 3))) == 1


# ------------------------------------------------------------------ plain lines


def test_a_plain_line_comes_every_ten_seconds(started: Started) -> None:
    stream, clock = StringIO(), HandClock()
    display = PlainDisplay(stream, clock)
    prepared, beginning, tally = started()
    display.begin(prepared, beginning, tally, None)
    for _ in range(100):
        clock.now_s += 0.25
        display.update(tally)
    tally.hear(RowEnded(0, RowStatus.DONE))
    for _ in range(20):
        clock.now_s += 0.25
        display.update(tally)
    display.end()
    assert stream.getvalue().splitlines() == [
        "reviews: 3 rows, 2 steps",
        "0/3  0.0 rows/s",
        "0/3  0.0 rows/s",
        "1/3  0.0 rows/s  1:00 min left",
    ]


LOST = [
    (KeyExhausted("old", "no money"), "key old is spent: no money"),
    (KeyRetired("old", "unknown key"), "key old is out: unknown key"),
    (KeyRetired("key 3", "unknown key"), "key 3 is out: unknown key"),
    (KeyRested("main", 7200.0, "per day"), "key main rests for 2:00:00 h: per day"),
    (ModelMissing("old", "gpt-9", "no such model"), "key old does not serve gpt-9: no such model"),
]


@pytest.mark.parametrize(("event", "line"), LOST)
@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_a_lost_key_is_told_at_once(kind: type[Any], event: Any, line: str) -> None:
    stream = StringIO()
    display: Display = kind(stream)
    display.hear(KeyRested("old", 3.0, "slow down"))
    display.hear(event)
    assert stream.getvalue() == f"{line}\n"


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_a_wait_for_a_key_is_told_once(kind: type[Any]) -> None:
    stream = StringIO()
    display: Display = kind(stream)
    display.hear(KeysSpent("no key is left", "mend config.json", 0.0))
    display.hear(KeysSpent("no key is left", "mend config.json", 30.0))
    assert stream.getvalue() == "waiting: no key is left\nHint: mend config.json\n"


def test_a_server_message_is_shown_as_it_is() -> None:
    stream = Terminal()
    LiveDisplay(stream).hear(KeyRetired("old", "[red]:warning:[/red]"))
    assert "[red]:warning:[/red]" in stream.getvalue()


def test_batches_are_told_of_before_the_rows_and_no_line_repeats_them(started: Started) -> None:
    stream, clock = StringIO(), HandClock()
    display = PlainDisplay(stream, clock)
    prepared, beginning, tally = started()
    tally.away = lambda: "batches 1 of 3 done, 1,000/3,000 calls"
    display.begin(prepared, beginning, tally, None)
    for _ in range(3):
        clock.now_s += 10
        display.update(tally)
    assert stream.getvalue().count("0/3  batches 1 of 3 done, 1,000/3,000 calls") == 1


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_draining_says_what_is_waited_for(kind: type[Any]) -> None:
    stream = StringIO()
    kind(stream).draining(1)
    assert " ".join(stream.getvalue().split()) == draining_words(1)
    assert "1 call in flight" in draining_words(1)
    assert "Ctrl-C again stops now" in draining_words(1)


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_a_limit_is_named_when_it_is_reached(kind: type[Any]) -> None:
    stream = StringIO()
    kind(stream).draining(0, "limits.wall_s")
    kind(stream).draining(2, "limits.wall_s")
    assert stream.getvalue().split("\n")[:2] == [
        "stopping: limits.wall_s is reached",
        "stopping: limits.wall_s is reached; waiting for 2 calls in flight",
    ]


def test_the_speed_is_that_of_the_last_half_minute() -> None:
    clock = HandClock()
    meter = Meter(clock)
    tally = Tally(rows=100_000)
    for second in range(1, 200):  # fast, then a stop
        clock.now_s += 1
        tally.ended_here = min(second, 100) * 50
        figures = meter.figures(tally)
    assert figures[0] == "0.0 rows/s"


def times_left(ended_by: Callable[[float], int], seconds: int) -> list[bool]:
    """Whether a run told the time left, a second after the other; looked at four times a second."""
    clock = HandClock()
    meter, began_s = Meter(clock), clock.now_s
    told = []
    for quarter in range(1, 4 * seconds + 1):
        clock.now_s = began_s + quarter / 4
        ended = ended_by(quarter / 4)
        figures = meter.figures(Tally(rows=100_000, done=ended, ended_here=ended))
        if quarter % 4 == 0:
            told.append(any(figure.endswith(" left") for figure in figures))
    return told


def test_the_time_left_is_left_out_in_an_outage() -> None:
    def ended_by(now_s: float) -> int:
        return int(min(now_s, 20) * 10 + max(0, now_s - 40) * 10)

    told = times_left(ended_by, 50)
    assert told == [True] * 25 + [False] * 15 + [True] * 10


def test_rows_that_end_in_bunches_have_a_time_left_in_between() -> None:
    assert times_left(lambda now_s: int(now_s / 8) * 64, 60) == [False] * 7 + [True] * 53
    assert times_left(lambda now_s: int(now_s / 14), 60) == [False] * 13 + [True] * 47


def test_a_plain_line_leaves_out_the_time_left_in_an_outage(started: Started) -> None:
    stream, clock = StringIO(), HandClock()
    display = PlainDisplay(stream, clock)
    prepared, beginning, _ = started()
    tally = Tally(rows=1_000)
    display.begin(prepared, beginning, tally, None)
    for quarter in range(80):
        clock.now_s += 0.25
        tally.done = tally.ended_here = min(quarter, 48)
        display.update(tally)
    lines = stream.getvalue().split("\n")
    assert lines[-3].endswith(" left")
    assert lines[-2] == "48/1,000  2.4 rows/s"


# ------------------------------------------------------------------ the bar


def test_the_bar_moves_and_leaves_nothing_behind(started: Started) -> None:
    stream = Terminal()
    display = LiveDisplay(stream)
    prepared, beginning, tally = started()
    display.begin(prepared, beginning, tally, None)
    tally.hear(RowEnded(0, RowStatus.DONE))
    display.update(tally)
    assert "1/3" in stream.getvalue()
    shown = len(stream.getvalue())
    display.end()
    assert "\x1b[2K" in stream.getvalue()[shown:]  # the line is cleared
    assert stream.getvalue().startswith("reviews: 3 rows, 2 steps")


def test_the_bar_of_an_empty_run_can_be_drawn(started: Started) -> None:
    display = LiveDisplay(Terminal())
    prepared, beginning, _ = started()
    display.begin(prepared, beginning, Tally(), None)
    display.end()


def test_the_display_fits_the_stream() -> None:
    assert isinstance(choose_display(Terminal()), LiveDisplay)
    assert isinstance(choose_display(StringIO()), PlainDisplay)
    assert isinstance(choose_display(Terminal(), quiet=True), NoDisplay)
    assert isinstance(choose_display(None), NoDisplay)
    closed = StringIO()
    closed.close()
    assert isinstance(choose_display(closed), PlainDisplay)


class LostTerminal(Terminal):
    """A terminal whose window was closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, f"no terminal for {text!r}")


def closed_pipe() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", buffering=1, closefd=False)


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
@pytest.mark.parametrize("make", [LostTerminal, closed_pipe])
def test_a_run_goes_on_where_nobody_can_see_it(
    started: Started, kind: type[Any], make: Callable[[], TextIO]
) -> None:
    display: Display = kind(make())
    prepared, beginning, tally = started()
    display.begin(prepared, beginning, tally, None)
    display.hear(KeyRetired("old", "unknown key"))
    display.update(tally)
    display.draining(1)
    display.end()
