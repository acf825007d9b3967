"""Crashes: a run is killed with SIGKILL at random moments, again and again, then left to finish.

    python benchmarks/kill.py [--rows 2000] [--kills 10] [--seed 1]

Checked from the simulator's log and the output: each row appears once, in input order; no call
that was answered long before a kill is asked again; the calls that are asked again after a kill
are at most those in flight.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from measuring import ENVIRONMENT, GPTFLOW, simulator

CONCURRENCY = 32
SCENARIO = """
latency: 50ms
log: requests.jsonl
reply:
  - {match: "^Label", template: '{"label": "negative"}'}
  - {text: "We are sorry."}
"""
SPEC = f"""
name: kill
source: {{path: rows.jsonl}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps:
  - name: label
    prompt: "Label review {{{{ number }}}}."
    extract: {{label: {{json: label}}}}
  - name: apology
    when: label == 'negative'
    prompt: "Apologise."
    extract: {{apology: text}}
parallelism: {{concurrency: {CONCURRENCY}}}
output: {{path: out.jsonl}}
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """One run, in the background."""
    command = [*GPTFLOW, "run", "spec.yaml", "--quiet"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill_at_random(folder: Path, kills: int, luck: random.Random, longest_s: float) -> int:
    """Starts and kills runs; how many of them were still at work when they were killed."""
    struck = 0
    for _ in range(kills):
        process = start(folder)
        time.sleep(luck.uniform(0.3, longest_s))
        struck += process.poll() is None
        process.kill()
        process.communicate()
    return struck


def repeats(folder: Path) -> tuple[int, int, int]:
    """Requests in all, questions that were asked more than once, and asked too often."""
    log = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    asked = Counter(entry["request"] for entry in log)
    return len(log), sum(asked.values()) - len(asked), max(asked.values())


def check(folder: Path, rows: int) -> list[str]:
    """What is wrong with the output."""
    numbers = [json.loads(line)["number"] for line in (folder / "out.jsonl").open()]
    wrong = []
    if sorted(numbers) != list(range(rows)):
        wrong.append("a row is missing or doubled")
    if numbers != sorted(numbers):
        wrong.append("the rows are out of order")
    return wrong


def main() -> None:
    """Kills, checks, prints, and fails if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, simulator(Path(name), SCENARIO):
        folder = Path(name)
        (folder / "spec.yaml").write_text(SPEC)
        lines = (json.dumps({"number": number}) for number in range(arguments.rows))
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        ideal_s = arguments.rows * 2 * 0.05 / CONCURRENCY
        luck = random.Random(arguments.seed)
        struck = kill_at_random(folder, arguments.kills, luck, 0.6 + ideal_s / arguments.kills * 2)
        last = start(folder)
        _, errors = last.communicate()
        time.sleep(0.2)  # the simulator's log is written every 50 ms
        requests, repeated, most = repeats(folder)
        wrong = check(folder, arguments.rows)
    if last.returncode != 0:
        wrong.append(f"the last run ended with {last.returncode}: {errors.decode()}")
    if repeated > struck * CONCURRENCY:
        wrong.append("more calls were repeated than were in flight")
    print(f"{struck} of {arguments.kills} kills struck a working run; seed {arguments.seed}")
    print(
        f"{requests:,} requests for {2 * arguments.rows:,} calls: {repeated} asked again, "
        f"{repeated / max(struck, 1):.1f} a kill, none more than {most} times; "
        f"{CONCURRENCY} in flight"
    )
    print("; ".join(wrong) or f"all {arguments.rows:,} rows once, in input order")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
