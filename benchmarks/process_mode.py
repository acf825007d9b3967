"""What processes gain: the CPU of a row in mode `process` against one event loop, and who pays it.

    python benchmarks/process_mode.py [--rows 12000] [--rounds 3]

Both modes ask the same simulator the same rows, alternating, and the median counts. What is
compared is the marginal CPU of a row, so that no start-up is in it. With two cores to themselves
two workers bring (CPU of a row on one loop) / (CPU of a row in all processes together) * 2 times
the rows, as long as the run's own process, which everything goes through, has no more than half.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from cpu_per_row import gptflow_command
from measuring import ENVIRONMENT, simulator

FEW_ROWS = 500
WORKERS = 2
LEAST_GAIN, MOST_OF_PARENT = 1.7, 0.20
TICKS_PER_S = 100


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a living process has used."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / TICKS_PER_S


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def used_s(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of CPU that a run has used: its own process, and its workers."""
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    parent, workers = 0.0, dict[int, float]()
    while process.poll() is None:
        with suppress(OSError):  # one has ended while it was looked at
            parent = cpu_s(process.pid)
            for child in children(process.pid):
                workers[child] = cpu_s(child)
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"a run ended with exit code {process.returncode}")
    return parent, sum(workers.values())


def marginal_us(folder: Path, rows: int, options: list[str]) -> tuple[float, float]:
    """CPU of one more row in microseconds: of the run's process, and of its workers."""
    few = used_s([*gptflow_command(folder, FEW_ROWS), *options], folder)
    many = used_s([*gptflow_command(folder, rows), *options], folder)
    parent, workers = (
        (after - before) / (rows - FEW_ROWS) * 1e6 for before, after in zip(few, many, strict=True)
    )
    return parent, workers


def main() -> None:
    """Measures, prints, and fails if a bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    modes = {"async": [], "process": ["--mode", "process", "--workers", str(WORKERS)]}
    figures: dict[str, list[tuple[float, float]]] = {mode: [] for mode in modes}
    with tempfile.TemporaryDirectory() as name, simulator(Path(name)) as base_url:
        del base_url  # config.json has it
        for _ in range(arguments.rounds):
            for mode, options in modes.items():
                figures[mode].append(marginal_us(Path(name), arguments.rows, options))
    alone = statistics.median(parent for parent, _ in figures["async"])
    parent, workers = (
        statistics.median(column) for column in zip(*figures["process"], strict=True)
    )
    gain, share = WORKERS * alone / (parent + workers), parent / (parent + workers)
    print(f"async    {alone:>5,.0f} us of CPU a row")
    print(f"process  {parent + workers:>5,.0f} us, {parent:,.0f} of them in the run's own process")
    print(f"rows on {WORKERS} cores: {gain:.2f} times those of one, the bar is {LEAST_GAIN}")
    print(f"the run's own process: {share:.0%} of a row, the bar is {MOST_OF_PARENT:.0%}")
    sys.exit(gain < LEAST_GAIN or share > MOST_OF_PARENT)


if __name__ == "__main__":
    main()
