"""Edits: what is asked again after a spec or its data changed, by the simulator's own count.

    python benchmarks/reuse.py [--rows 2000]

Fails if an edit asks more than it must.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import ENVIRONMENT, GPTFLOW, simulator

SCENARIO = """
latency: 50ms
log: requests.jsonl
reply:
  - {match: "^Label", template: '{"label": "negative"}'}
  - {text: "We are sorry."}
"""
SPEC = """
name: reuse
source: {path: rows.jsonl}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - name: label
    prompt: "Label review {{ number }}."
    extract: {label: {json: label}}
  - name: apology
    when: label == 'negative'
    prompt: "Apologise."
    extract: {apology: text}
parallelism: {concurrency: 32}
output: {path: out.jsonl}
"""


def write_rows(folder: Path, numbers: list[int]) -> None:
    """The source, in this order."""
    lines = (json.dumps({"number": number}) for number in numbers)
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")


def asked_by_run(folder: Path, spec: str) -> tuple[int, float]:
    """Requests that a run of the spec has sent, and its seconds."""
    log = folder / "requests.jsonl"
    before = log.read_text().count("\n") if log.exists() else 0
    (folder / "spec.yaml").write_text(spec)
    began_s = time.perf_counter()
    subprocess.run(
        [*GPTFLOW, "run", "spec.yaml", "--quiet"],
        cwd=folder,
        env=ENVIRONMENT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    took_s = time.perf_counter() - began_s
    time.sleep(0.2)  # the simulator's log is written every 50 ms
    return (log.read_text().count("\n") if log.exists() else 0) - before, took_s


def main() -> None:
    """Runs, edits, runs again; prints, and fails where too much is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    rows = parser.parse_args().rows
    regex = SPEC.replace("{apology: text}", "{apology: {regex: '(\\w+)'}}")
    second_prompt = regex.replace('"Apologise."', '"Apologise kindly."')
    appended = [*range(rows), *range(rows, rows + 10)][::-1]
    edits = [
        ("the first run", SPEC, list(range(rows)), 2 * rows),
        ("the same again", SPEC, list(range(rows)), 0),
        ("another extractor", regex, list(range(rows)), 0),
        ("another second prompt", second_prompt, list(range(rows)), rows),
        ("10 rows appended, all reversed", second_prompt, appended, 20),
    ]
    wrong = []
    with tempfile.TemporaryDirectory() as name, simulator(Path(name), SCENARIO):
        folder = Path(name)
        for what, spec, numbers, expected in edits:
            write_rows(folder, numbers)
            asked, took_s = asked_by_run(folder, spec)
            print(f"{what:<32} {asked:>6,} requests, {expected:>6,} expected   {took_s:5.1f} s")
            output = [json.loads(line)["number"] for line in (folder / "out.jsonl").open()]
            if asked != expected or output != numbers:
                wrong.append(what)
    sys.exit(f"wrong: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
