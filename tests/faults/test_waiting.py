"""A run that can only wait does so without a busy processor: for keys, for a server, for a rest."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.project import Project

SPEC = """
name: reviews
source: {path: reviews.jsonl}
model: {name: m-1, temperature: 0}
steps: [{name: label, prompt: "Row {{ number }}.", extract: {label: text}}]
output: {path: out/labels.jsonl}
"""
WATCHED_S, MOST_CPU_S = 2.0, 0.3
BEGINNING = 40
"""Requests that are answered before the run has to wait."""
WAITS: dict[str, dict[str, Any]] = {
    "all keys spent": {"failures": [{"name": "insufficient_quota", "after": BEGINNING}]},
    "all keys rest": {
        "failures": [{"name": "rate_limit_rpm", "after": BEGINNING, "retry_after": "60s"}]
    },
    "no answer comes": {"failures": [{"name": "hang", "after": BEGINNING}]},
    "the server is gone": {"outages": [{"at": "1s", "lasts": "600s"}]},
}


@dataclass
class Waiting:
    """A run, and what it has asked."""

    process: subprocess.Popen[str]
    requests: list[LogEntry]


def cpu_s(process: subprocess.Popen[str]) -> float:
    """What a process has used so far: user and system time, of all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def begin_to_wait(runs: list[Waiting]) -> None:
    """Returns when none of them has asked anything for a second."""
    counts: list[int] = []
    since_s = began_s = time.monotonic()
    while time.monotonic() - since_s < 1.0:
        time.sleep(0.05)
        seen = [len(run.requests) for run in runs]
        if seen != counts or min(seen) < BEGINNING:
            counts, since_s = seen, time.monotonic()
        assert time.monotonic() - began_s < 40, "they did not begin to wait"
    for run in runs:
        assert run.process.poll() is None, run.process.communicate()


def test_a_run_that_waits_leaves_the_processor_alone(tmp_path: Path) -> None:
    """Four runs that wait at the same time, to save time."""
    with ExitStack() as opened:
        runs = {
            name: opened.enter_context(waiting(tmp_path / name, scenario))
            for name, scenario in WAITS.items()
        }
        begin_to_wait(list(runs.values()))
        before_s = {name: cpu_s(run.process) for name, run in runs.items()}
        time.sleep(WATCHED_S)
        used_s = {name: cpu_s(run.process) - before_s[name] for name, run in runs.items()}
    assert max(used_s.values()) < MOST_CPU_S, used_s


@contextmanager
def waiting(folder: Path, scenario: dict[str, Any]) -> Iterator[Waiting]:
    """A run of many rows over two keys, killed at the end."""
    folder.mkdir()
    requests: list[LogEntry] = []
    told = Scenario.model_validate({"latency": "20ms", **scenario})
    with MockServer(told, on_request=requests.append) as server:
        project = Project(folder, server.base_url)
        project.write("spec.yaml", SPEC)
        project.write_rows([{"number": number} for number in range(10_000)])
        project.write_config("sk-0123456789-0001", "sk-0123456789-0002")
        process = project.start("run", "spec.yaml")
        try:
            yield Waiting(process, requests)
        finally:
            process.kill()
            process.communicate()
