"""Rows on a Ray cluster of this machine: kills, memory, limits.

    python benchmarks/ray_rows.py kills [--rows 5000]       an actor and a node are killed meanwhile
    python benchmarks/ray_rows.py memory [--rows 100000]    the peak of the driver's two processes
    python benchmarks/ray_rows.py limits [--rows 2400]      four keys with limits, two actors

The driver is the run and the process that speaks with Ray for it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from measuring import ENVIRONMENT, GPTFLOW, simulator
from rate_limits import KEYS, PER_MINUTE, REQUESTS, allowance
from ray_nodes import two_nodes

SPEC = """
name: rows
source: {path: rows.jsonl}
model: {name: simulated, temperature: 0, max_tokens: 50}
steps: [{name: ask, prompt: "{{ text }}", extract: {answer: text}}]
parallelism: {mode: ray, workers: 2}
output: {path: out.jsonl}
"""
BAR_MB = 400
LEAST_SHARE, MOST_REFUSED = 0.95, 0.01
LOOK_S = 0.5


@contextmanager
def started(folder: Path, rows: int, address: str | None) -> Iterator[subprocess.Popen[bytes]]:
    """`gptflow run`, on the cluster at `address` or on one of its own."""
    (folder / "spec.yaml").write_text(SPEC)
    lines = (json.dumps({"text": f"Row {n}."}) for n in range(rows))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    environment = ENVIRONMENT | ({"RAY_ADDRESS": address} if address else {})
    command = [*GPTFLOW, "run", "spec.yaml", "--quiet"]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kills(folder: Path, rows: int) -> bool:
    """Whether all rows came out once although an actor was killed, and then a node."""
    with simulator(folder, "reply: echo\nlatency: 100ms\n"), two_nodes() as nodes:
        store = folder / ".gptflow/rows.db"
        with started(folder, rows, nodes.address) as process:
            deeds: list[tuple[int, Callable[[], object]]] = [
                (rows // 4, kill_actor),
                (rows // 2, nodes.kill_second),
            ]
            for after, deed in deeds:
                while process.poll() is None and done(store) < after:
                    time.sleep(LOOK_S)
                deed()
                print(f"killed after {done(store):,} calls", flush=True)
            code = process.wait()
    written = [json.loads(line)["text"] for line in (folder / "out.jsonl").open()]
    with closing(sqlite3.connect(store)) as opened:
        (calls,) = opened.execute("SELECT count(*) FROM calls").fetchone()
    print(
        f"exit code {code}; {len(written):,} rows, {len(set(written)):,} different; "
        f"{calls:,} calls stored"
    )
    return code == 0 and written == [f"Row {n}." for n in range(rows)]


def kill_actor() -> None:
    """Kills one of the actors with SIGKILL."""
    os.kill(
        next(pid for pid, command in processes() if command.startswith("ray::Actor")),
        signal.SIGKILL,
    )


def processes() -> Iterator[tuple[int, str]]:
    """Each process of this machine, with its command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        yield int(folder.name), command


def done(store: Path) -> int:
    """Calls that are in the store."""
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as opened:
        try:
            return int(opened.execute("SELECT count(*) FROM calls").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def memory(folder: Path, rows: int) -> bool:
    """Whether the driver stayed below the bar."""
    peaks: dict[str, float] = {}
    cpu: dict[str, float] = {}
    with simulator(folder), started(folder, rows, None) as process:
        began_s = time.monotonic()
        while process.poll() is None:
            for pid, command in processes():
                name = "run" if pid == process.pid else "speaks with Ray"
                if pid == process.pid or "ray_driver" in command:
                    peaks[name] = peak_mb(pid) or peaks.get(name, 0.0)
                    cpu[name] = cpu_s(pid) or cpu.get(name, 0.0)
            time.sleep(LOOK_S)
        took_s = time.monotonic() - began_s
    for name, peak in peaks.items():
        per_row_us = cpu[name] / rows * 1e6
        print(f"{name:<16} {peak:>6.0f} MB at its peak, {per_row_us:.0f} us of CPU a row")
    print(
        f"together {sum(peaks.values()):.0f} MB (bar {BAR_MB} MB); {rows:,} rows in {took_s:.0f} s"
    )
    with (folder / "out.jsonl").open() as out:
        return sum(peaks.values()) < BAR_MB and sum(1 for _ in out) == rows


def peak_mb(pid: int) -> float:
    """The most memory that a process has had, shared libraries included; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else 0


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limits(folder: Path, rows: int) -> bool:
    """Whether two actors use the limits of four keys, and no more."""
    log = folder / "log.jsonl"
    names = [f"sk-benchmark-of-limits-{n}" for n in range(KEYS)]
    keys = [REQUESTS] * KEYS
    scenario = {"latency": "200ms", "keys": dict(zip(names, keys, strict=True)), "log": str(log)}
    with simulator(folder, json.dumps(scenario)) as base_url:
        entries = [{"api_key": name, "base_url": base_url} for name in names]
        (folder / "config.json").write_text(json.dumps({"key_list": entries}))
        with started(folder, rows, None) as process:
            process.wait()
    seen = [json.loads(line) for line in log.read_text().splitlines()]
    answered = [entry for entry in seen if entry["status"] == 200]
    share = len(answered) / (allowance(keys, seen) * PER_MINUTE / 60)
    refused = 1 - len(answered) / len(seen)
    print(
        f"{share:.1%} of the limits (bar {LEAST_SHARE:.0%}), "
        f"{refused:.2%} refused (bar {MOST_REFUSED:.0%})"
    )
    return share >= LEAST_SHARE and refused < MOST_REFUSED


SHOWS = {"kills": (kills, 5_000), "memory": (memory, 100_000), "limits": (limits, 2_400)}


def main() -> None:
    """Measures, prints, and fails if a bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("show", choices=SHOWS)
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    show, rows = SHOWS[arguments.show]
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not show(Path(folder), arguments.rows or rows))


if __name__ == "__main__":
    main()
