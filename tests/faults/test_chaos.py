"""The benchmarks that break everything at once: a short run of each belongs to the suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMMANDS: dict[str, list[str | Path]] = {
    "chaos": [BENCHMARKS / "chaos.py", "--kills", "6", "--rows", "100", "--seed", "1"],
    "fault mix": [BENCHMARKS / "fault_mix.py", "--calls", "400", "--seed", "1"],
}


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both at the same time, as each of them mostly waits."""
    with ExitStack() as opened:
        processes = {}
        for name, command in COMMANDS.items():
            processes[name] = opened.enter_context(
                subprocess.Popen(
                    [sys.executable, *command],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            opened.callback(processes[name].kill)
        yield processes


def told(process: subprocess.Popen[str]) -> str:
    """What a benchmark says that has kept its promises."""
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def test_whatever_kills_a_run_no_row_is_lost_or_doubled_and_no_answer_paid_again(
    started: dict[str, subprocess.Popen[str]],
) -> None:
    assert "rows lost 0, doubled 0; stored answers asked for again 0" in told(started["chaos"])


def test_a_run_under_every_failure_at_once_keeps_every_promise(
    started: dict[str, subprocess.Popen[str]],
) -> None:
    said = told(started["fault mix"])
    assert "every promise was kept" in said
    assert "failed in 139 ways" in said
