"""Throughput: how near a run comes to what its concurrency and the server's latency allow.

    python benchmarks/throughput.py [--rows 20000]

200 calls in flight at 100 ms can be at most 2,000 a second. The simulator counts from the first
request that it sees to the last answer that it gives; a raw HTTP loop asks it the same in the same
run of this script, and shows what the simulator and the machine leave room for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cpu_per_row import client_command, gptflow_command
from measuring import measure, simulator

CONCURRENCY = 200
LATENCY_S = 0.1
IDEAL = CONCURRENCY / LATENCY_S
BAR = 0.95
"""The share of the ideal that a run must reach."""
SCENARIO = f"reply: echo\nlatency: {LATENCY_S * 1000:.0f}ms\nlog: requests.jsonl\n"


@dataclass(frozen=True, slots=True)
class Speed:
    """How quickly one client went through its rows."""

    rows_per_s: float
    """From the first request to the last answer."""
    with_start_per_s: float
    """From the start of the process to its end."""
    cpu_share: float
    """Of one core."""


def speed_of(client: str, folder: Path, base_url: str, rows: int) -> Speed:
    """Runs a client, and reads in the simulator's log when it asked."""
    if client == "gptflow":
        command = gptflow_command(folder, rows, CONCURRENCY)
    else:
        command = client_command(client, rows, base_url, CONCURRENCY)
    log = folder / "requests.jsonl"
    before = log.stat().st_size
    used = measure(command, cwd=folder)
    with log.open("rb") as lines:
        lines.seek(before)
        entries = [json.loads(line) for line in lines]
    if len(entries) != rows:
        sys.exit(f"{client} asked {len(entries):,} times for {rows:,} rows")
    first_s = min(entry["time"] for entry in entries)
    last_s = max(entry["time"] + entry["latency_s"] for entry in entries)
    return Speed(rows / (last_s - first_s), rows / used.wall_s, used.cpu_s / used.wall_s)


def main() -> None:
    """Measures, prints, and fails if the bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    reached: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, simulator(Path(name), SCENARIO) as base_url:
        speeds: dict[str, list[Speed]] = {"gptflow": [], "raw_http": []}
        for _ in range(arguments.rounds):
            for client, its in speeds.items():
                its.append(speed_of(client, Path(name), base_url, arguments.rows))
    for client, its in speeds.items():
        reached[client] = statistics.median(speed.rows_per_s for speed in its)
        with_start = statistics.median(speed.with_start_per_s for speed in its)
        cpu = statistics.median(speed.cpu_share for speed in its)
        print(
            f"{client:<9} {reached[client]:>6,.0f} rows/s, {reached[client] / IDEAL:.1%} of "
            f"{IDEAL:,.0f}   {with_start:>6,.0f} with start-up   {cpu:.0%} of a core"
        )
    share = reached["gptflow"] / IDEAL
    print(f"gptflow / raw_http = {reached['gptflow'] / reached['raw_http']:.3f}")
    print(f"gptflow / ideal = {share:.3f}, the bar is {BAR:.2f}")
    sys.exit(share < BAR)


if __name__ == "__main__":
    main()
