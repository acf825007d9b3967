"""A run that can only wait does so without a busy processor: for keys, for a server, for a rest."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.faults.mock_process import MockProcess, mock_process
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
WAITS: dict[str, list[dict[str, Any]]] = {
    "all keys spent": [{"name": "insufficient_quota", "after": BEGINNING}],
    "all keys rest": [{"name": "rate_limit_rpm", "after": BEGINNING, "retry_after": "60s"}],
    "no answer comes": [{"name": "hang", "after": BEGINNING}],
    "gone": [],
}


def cpu_s(process: subprocess.Popen[str]) -> float:
    """What a process has used so far: user and system time, of all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def begin_to_wait(process: subprocess.Popen[str], mock: MockProcess, *, gone: bool) -> None:
    """Waits until no request has come for a second."""
    count, since_s = -1, time.monotonic()
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        asked = len(mock.log())
        if asked != count:
            count, since_s = asked, time.monotonic()
        if gone and count >= BEGINNING:
            mock.kill()
        if count >= BEGINNING and time.monotonic() - since_s > 1.0:
            assert process.poll() is None, process.communicate()
            return
        time.sleep(0.05)
    raise AssertionError("it did not begin to wait")


def test_a_run_that_waits_leaves_the_processor_alone(tmp_path: Path) -> None:
    """Four runs that wait at the same time, to save time."""
    with ExitStack() as open_runs:
        processes = {}
        mocks = {}
        for name, failures in WAITS.items():
            folder = tmp_path / name
            folder.mkdir()
            scenario = {"latency": "20ms", "failures": failures}
            mocks[name] = open_runs.enter_context(mock_process(folder, scenario))
            processes[name] = open_runs.enter_context(running(folder, mocks[name].base_url))
        for name, process in processes.items():
            begin_to_wait(process, mocks[name], gone=name == "gone")
        before_s = {name: cpu_s(process) for name, process in processes.items()}
        time.sleep(WATCHED_S)
        used_s = {name: cpu_s(process) - before_s[name] for name, process in processes.items()}
    assert max(used_s.values()) < MOST_CPU_S, used_s


@contextmanager
def running(folder: Path, base_url: str) -> Iterator[subprocess.Popen[str]]:
    """A run of many rows over two keys, killed at the end."""
    project = Project(folder, base_url)
    project.write("spec.yaml", SPEC)
    project.write_rows([{"number": number} for number in range(10_000)])
    project.write_config("sk-0123456789-0001", "sk-0123456789-0002")
    process = project.start("run", "spec.yaml")
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
