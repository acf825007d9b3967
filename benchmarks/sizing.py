"""What a large job costs: a thousand keys in the key pool, and rows in the store.

    python benchmarks/sizing.py [--keys 1000] [--rows 50000]

The pool is simulated: its clock is made up, each key may send 10 requests a second, a reply takes
two seconds and carries the headers of its limits. The rows are real ones of `gptflow run` on the
simulator. docs/sizing.md reckons with what this prints.
"""

from __future__ import annotations

import argparse
import heapq
import resource
import tempfile
import time
from pathlib import Path

from cpu_per_row import gptflow_command
from measuring import measure, simulator

from gptflow.engine.config import KeyEntry
from gptflow.engine.keys import KeyPool, Lease, Wait
from gptflow.engine.secret import Secret

PER_MINUTE, REPLY_S, SIMULATED_S = 600, 2.0, 60.0
MODEL = "gpt-4o-mini"
FEW_ROWS = 2_000


class Simulation:
    """Time passes as the pool's waits say, and as replies come."""

    def __init__(self, keys: int) -> None:
        entries = [KeyEntry(f"key {n}", Secret(f"sk-sizing-{n:08}")) for n in range(keys)]
        self.pool = KeyPool(entries)
        self._on_the_way: list[tuple[float, int, Lease]] = []
        self._sent: dict[str, list[float]] = {}
        self.calls = 0

    def run(self, until_s: float) -> None:
        """Takes all that can be taken, and settles what comes back, until the time is over."""
        now = 0.0
        while now < until_s:
            taken = self.pool.take(now, MODEL, tokens=100)
            if isinstance(taken, Lease):
                self.calls += 1
                heapq.heappush(self._on_the_way, (now + REPLY_S, self.calls, taken))
                continue
            wake = taken.until if isinstance(taken, Wait) and taken.until else until_s
            arrival = self._on_the_way[0][0] if self._on_the_way else until_s
            now = max(now, min(wake, arrival))
            while self._on_the_way and self._on_the_way[0][0] <= now:
                _, _, lease = heapq.heappop(self._on_the_way)
                self.pool.settle(lease, now, None, headers=self._headers(lease, now))

    def _headers(self, lease: Lease, now: float) -> dict[str, str]:
        recent = [at for at in self._sent.get(lease.key.name, []) if at > now - 1]
        recent.append(now)
        self._sent[lease.key.name] = recent
        left = max(0, PER_MINUTE // 60 - len(recent))
        return {
            "x-ratelimit-limit-requests": str(PER_MINUTE),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": "1s",
        }


def pool(keys: int) -> None:
    """What the pool itself costs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    simulation = Simulation(keys)
    began = time.process_time()
    simulation.run(SIMULATED_S)
    cpu_s = time.process_time() - began
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    per_second = simulation.calls / SIMULATED_S
    print(
        f"{keys:,} keys: {per_second:,.0f} calls/s, {cpu_s / simulation.calls * 1e6:.0f} us of CPU "
        f"a call, {grown_mb:.0f} MB"
    )


def store(rows: int) -> None:
    """What a row costs in CPU and in the store."""
    with tempfile.TemporaryDirectory() as name, simulator(Path(name)):
        folder, used, sizes = Path(name), [], []
        for count in (FEW_ROWS, rows):
            used.append(measure(gptflow_command(folder, count), cwd=folder))
            sizes.append(sum(path.stat().st_size for path in folder.glob(".gptflow/*.db*")))
            for path in folder.glob(".gptflow/*"):
                path.unlink()
        added = rows - FEW_ROWS
        print(
            f"{rows:,} rows on one loop: {(used[1].cpu_s - used[0].cpu_s) / added * 1e6:.0f} us of "
            f"CPU a row, {(sizes[1] - sizes[0]) / added:,.0f} bytes of store a row, "
            f"peak {used[1].peak_mb:.0f} MB ({used[1].peak_mb - used[0].peak_mb:+.0f} MB)"
        )


def main() -> None:
    """Simulates, measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=50_000)
    arguments = parser.parse_args()
    for keys in (1, arguments.keys):
        pool(keys)
    store(arguments.rows)


if __name__ == "__main__":
    main()
