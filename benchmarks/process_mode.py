"""What processes gain: the CPU of a row in mode `process` against one event loop, and who pays it.

    python benchmarks/process_mode.py [--rows 12000] [--rounds 3]

Both modes ask the same simulator the same rows, alternating, and the median counts. What is
compared is the marginal CPU of a row, so that no start-up is in it. With two cores to themselves
two workers bring (CPU of a row on one loop) / (CPU of a row in all processes together) * 2 times
the rows, as long as the run's own process, which everything goes through, has no more than half.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cpu_per_row import gptflow_command
from measuring import ENVIRONMENT, simulator

FEW_ROWS = 500
WORKERS = 2
LEAST_GAIN, MOST_OF_PARENT = 1.7, 0.20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def used_s(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds of CPU that a run has used: its own process, and its workers.

    Exact: when it has ended, and before it is reaped, the system still has both sums; that of the
    workers holds all that the run itself has reaped.
    """
    with subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL
    ) as process:
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        finally:
            process.kill()  # a Ctrl-C here leaves no run behind; one that has ended is left alone
    if process.returncode:
        sys.exit(f"a run ended with exit code {process.returncode}")
    user, system, of_children_user, of_children_system = map(int, stat[11:15])
    return (user + system) / TICKS_PER_S, (of_children_user + of_children_system) / TICKS_PER_S


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
    with tempfile.TemporaryDirectory() as name, simulator(Path(name)):
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
