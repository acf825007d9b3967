"""Mode `process` with two workers, of which one is killed every two seconds.

    python benchmarks/worker_kills.py [--rows 2000]

Each row has two calls of 100 ms, 32 are in flight. The run must end by itself with every row once,
and ask no more calls again than were in flight at the kills.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from measuring import ENVIRONMENT, GPTFLOW, simulator

IN_FLIGHT, EVERY_S = 32, 2.0
SPEC = f"""
name: kills
source: {{path: rows.jsonl, id: number}}
model: {{name: simulated, temperature: 0}}
steps:
  - {{name: one, prompt: "Row {{{{ number }}}}.", extract: {{one: text}}}}
  - {{name: two, prompt: "Again.", extract: {{two: text}}}}
parallelism: {{mode: process, workers: 2, concurrency: {IN_FLIGHT}}}
output: {{path: out.jsonl}}
"""


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def run(folder: Path) -> int:
    """Runs to the end, and kills meanwhile; how often."""
    process = subprocess.Popen([*GPTFLOW, "run", "spec.yaml", "-q"], cwd=folder, env=ENVIRONMENT)
    kills = 0
    while True:
        try:
            process.wait(EVERY_S)
        except subprocess.TimeoutExpired:
            workers = sorted(children(process.pid))
            if workers:
                os.kill(workers[kills % len(workers)], signal.SIGKILL)
                kills += 1
            continue
        if process.returncode:
            sys.exit(f"the run ended with exit code {process.returncode}")
        return kills


def main() -> None:
    """Measures, prints, and fails if a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(SPEC)
        lines = (json.dumps({"number": number}) for number in range(rows))
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        scenario = {"latency": "100ms", "log": str(folder / "log.jsonl"), "reply": "echo"}
        with simulator(folder, json.dumps(scenario)):
            began_s = time.monotonic()
            kills = run(folder)
            wall_s = time.monotonic() - began_s
        entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        numbers = [json.loads(line)["number"] for line in (folder / "out.jsonl").open()]
    asked = Counter(entry["request"] for entry in entries)
    again = sum(asked.values()) - len(asked)
    print(f"{rows:,} rows x 2 calls, {kills} workers killed in {wall_s:.0f} s")
    print(f"{again} calls asked again, {IN_FLIGHT * kills} were in flight at most")
    is_whole = numbers == list(range(rows)) and len(asked) == 2 * rows
    print("every row once, in order" if is_whole else "ROWS ARE MISSING OR DOUBLED")
    sys.exit(not is_whole or again > IN_FLIGHT * kills)


if __name__ == "__main__":
    main()
