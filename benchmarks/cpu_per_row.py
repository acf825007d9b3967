"""CPU per row: a whole gptflow run against a bare AsyncOpenAI pool and a raw HTTP loop.

    python benchmarks/cpu_per_row.py [--rows 5000]

All three ask the same simulator the same rows in one run of this script, alternating, and the
median counts. What is compared is the marginal CPU of a row: (CPU of N rows - CPU of a few rows)
/ the difference, so that no start-up is in it. gptflow renders, asks, stores with an fsync,
extracts, and writes the output; the others only ask.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from clients import MODEL, SYSTEM, prompt
from measuring import GPTFLOW, measure, simulator

CONCURRENCY = 64
FEW_ROWS = 300
BAR = 0.10
"""The share of the bare SDK's CPU that a whole row of ours may take."""

SPEC = f"""
name: benchmark
source: {{path: rows.jsonl}}
model: {{name: {MODEL}, temperature: 0}}
steps:
  - name: label
    system: {SYSTEM}
    prompt: "Label this review as one of positive, negative, neutral.\\n{{{{ text }}}}"
    extract: {{answer: text, number: {{regex: 'Review (\\d+)', type: int}}}}
parallelism: {{concurrency: CONCURRENCY}}
output: {{path: out.jsonl}}
"""


def gptflow_command(folder: Path, rows: int, concurrency: int = CONCURRENCY) -> list[str]:
    """A run over so many rows, which asks them all."""
    (folder / "spec.yaml").write_text(SPEC.replace("CONCURRENCY", str(concurrency)))
    lines = (json.dumps({"id": n, "text": prompt(n).split("\n", 1)[1]}) for n in range(rows))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return [*GPTFLOW, "run", "spec.yaml", "--fresh", "--quiet"]


def client_command(
    name: str, rows: int, base_url: str, concurrency: int = CONCURRENCY
) -> list[str]:
    """One of the loops of clients.py."""
    script = str(Path(__file__).with_name("clients.py"))
    return [sys.executable, script, name, str(rows), str(concurrency), base_url]


def marginal_us(folder: Path, base_url: str, client: str, rows: int) -> float:
    """CPU of one more row, in microseconds."""
    used = []
    for count in (FEW_ROWS, rows):
        if client == "gptflow":
            command = gptflow_command(folder, count)
        else:
            command = client_command(client, count, base_url)
        used.append(measure(command, cwd=folder).cpu_s)
    return (used[1] - used[0]) / (rows - FEW_ROWS) * 1e6


def main() -> None:
    """Measures, prints, and fails if the bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    clients = ("gptflow", "bare_sdk", "raw_http")
    figures: dict[str, list[float]] = {client: [] for client in clients}
    with tempfile.TemporaryDirectory() as name, simulator(Path(name)) as base_url:
        for _ in range(arguments.rounds):
            for client in clients:
                rows = arguments.rows if client != "bare_sdk" else arguments.rows // 3
                figures[client].append(marginal_us(Path(name), base_url, client, rows))
    medians = {client: statistics.median(values) for client, values in figures.items()}
    for client, value in medians.items():
        spread = f"{min(figures[client]):,.0f}-{max(figures[client]):,.0f}"
        print(f"{client:<10} {value:>7,.0f} us of CPU a row   ({spread})")
    share = medians["gptflow"] / medians["bare_sdk"]
    print(f"gptflow / bare_sdk = {share:.3f}, the bar is {BAR:.2f}")
    print(f"gptflow / raw_http = {medians['gptflow'] / medians['raw_http']:.2f}")
    sys.exit(share > BAR)


if __name__ == "__main__":
    main()
