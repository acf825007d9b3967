"""Measuring other processes: their CPU time, their peak memory, and a simulator for them to ask.

Two cores are enough: the simulator is pinned to one, what is measured to the other.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GPTFLOW = [sys.executable, "-m", "gptflow"]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used, its children included."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def measure(
    command: Sequence[str], *, cwd: Path | None = None, check: bool = True, code: int = 0
) -> Usage:
    """Runs a command to its end on the second core, and says what it used.

    `code` is the one that it must end with, if that is checked.
    """
    import time

    began_s = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        preexec_fn=lambda: _pin(1),  # noqa: PLW1509  # no threads in this program
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if check and process.returncode != code:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{errors.decode()}")
    return Usage(
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=time.perf_counter() - began_s,
        peak_mb=usage.ru_maxrss / 1024,
    )


@contextmanager
def simulator(folder: Path, scenario: str = "reply: echo\n") -> Iterator[str]:
    """`gptflow mock` on the first core; gives its base URL."""
    path = folder / "scenario.yaml"
    path.write_text(scenario)
    process = subprocess.Popen(
        [*GPTFLOW, "mock", str(path), "--port", "0"],
        cwd=folder,
        env=ENVIRONMENT,
        preexec_fn=lambda: _pin(0),  # noqa: PLW1509  # no threads in this program
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+/v1", process.stdout.readline())
        assert found, "the simulator did not start"
        write_config(folder, found.group())
        yield found.group()
    finally:
        process.terminate()
        process.wait()


def write_config(folder: Path, base_url: str, keys: int = 1) -> None:
    """A config.json whose keys are bound to the simulator."""
    key_list = [{"api_key": f"sk-benchmark-{n}", "base_url": base_url} for n in range(keys)]
    (folder / "config.json").write_text(json.dumps({"key_index": 0, "key_list": key_list}))
