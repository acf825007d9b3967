from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from gptflow.engine.events import KeyUsed
from gptflow.runner.display import NoDisplay
from gptflow.runner.events import RunEvent
from gptflow.runner.interrupt import Interruption
from gptflow.runner.prepare import prepare
from gptflow.runner.runner import Runner, RunOptions
from gptflow.runner.server import ServerChoice
from gptflow.runner.summary import Ending, RunSummary
from tests.runner.conftest import Folder

SPEC = """\
name: reviews
source: {range: 40}
model: {name: gpt-4o-mini}
steps:
  - name: label
    prompt: "Label {{ index }}."
parallelism: {concurrency: 4}
limits: {wall_s: 0.6}
output: {path: out.jsonl}
"""
LATENCY_S = 1.2


class Watching(NoDisplay):
    """Interrupts when calls are on the wire, if it is to, and notes what is said of the end."""

    def __init__(self, interruption: Interruption | None = None) -> None:
        self._interruption = interruption
        self.said: list[tuple[int, str]] = []

    def hear(self, event: RunEvent) -> None:
        if isinstance(event, KeyUsed) and self._interruption:
            asyncio.get_running_loop().call_later(0.05, self._interruption.interrupt)

    def draining(self, in_flight: int, limit: str = "") -> None:
        self.said.append((in_flight, limit))


@pytest.fixture
def scenario(folder: Folder) -> Path:
    path = folder.path / "slow.yaml"
    path.write_text(f"latency: {LATENCY_S}s\nreply: echo\n")
    return path


def run(
    scenario: Path, display: Watching, interruption: Interruption | None = None, **values: object
) -> RunSummary:
    Path("spec.yaml").write_text(SPEC)
    choice = ServerChoice(mock=True, scenario=scenario)
    dotted = {name.replace("__", "."): value for name, value in values.items()}
    prepared = prepare("spec.yaml", choice, values=dotted)
    return Runner(prepared, RunOptions(), display, interruption).run()


def test_at_a_limit_the_calls_on_the_wire_come_back_and_no_row_is_begun(scenario: Path) -> None:
    display = Watching()
    summary = run(scenario, display)
    assert (summary.status, summary.done, summary.pending) == (Ending.STOPPED, 4, 36)
    assert (summary.exit_code, summary.next_options) == (3, ())
    assert display.said == [(4, "limits.wall_s")]
    assert (summary.message or "").startswith("limits.wall_s is reached: the command has worked")


def test_a_limit_that_is_reached_after_ctrl_c_changes_nothing_of_that(scenario: Path) -> None:
    interruption = Interruption()
    display = Watching(interruption)
    invalid = {"steps__label__extract": {"word": {"regex": "no such word"}}}
    summary = run(scenario, display, interruption, limits={"failed_rows": 0}, **invalid)
    assert (summary.status, summary.signal) == (Ending.INTERRUPTED, signal.SIGINT)
    assert (summary.exit_code, summary.message) == (130, None)
    assert summary.failed > 0
    assert [limit for _, limit in display.said] == [""]


def test_a_limit_that_the_last_rows_outrun_is_no_stop(scenario: Path) -> None:
    summary = run(scenario, Watching(), source__range=4)
    assert (summary.status, summary.exit_code, summary.message) == (Ending.FINISHED, 0, None)


def test_a_limit_that_is_reached_before_the_first_call_asks_nothing(scenario: Path) -> None:
    summary = run(scenario, Watching(), limits__wall_s=1e-6)
    assert (summary.status, summary.calls, summary.pending) == (Ending.STOPPED, 0, 40)
