"""`concurrency: auto` against fixed ones, on servers that slow down under load.

    python benchmarks/concurrency.py [--rows 4000]

The rate is that of the whole run as the simulator's log has it, from the first request to the
last answer, the time in which the right concurrency is found included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import GPTFLOW, measure, simulator

SPEC = """
name: concurrency
source: {{path: rows.jsonl}}
model: {{name: simulated, temperature: 0}}
steps: [{{name: ask, prompt: "{{{{ text }}}}", extract: {{answer: text}}}}]
parallelism: {{concurrency: {concurrency}}}
output: {{path: out.jsonl}}
"""
LATENCY = {"median": 0.1, "p95": 0.15}
SERVERS: dict[str, dict[str, Any]] = {
    "queue at 32": {"slowdown": {"capacity": 32, "shape": "queue"}},
    "batch of 16": {"slowdown": {"capacity": 16, "shape": "batch"}},
    "collapse at 32": {"slowdown": {"capacity": 32, "shape": "collapse"}},
    "refuses above 32": {"concurrency": 32},
}
FIXED = (8, 16, 32, 64, 128)
BAR = 0.95


def rows_per_s(folder: Path, server: dict[str, Any], concurrency: int | str, rows: int) -> float:
    """What a whole run reaches."""
    (folder / "spec.yaml").write_text(SPEC.format(concurrency=concurrency))
    lines = (json.dumps({"text": f"Row {n}."}) for n in range(rows))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    log = folder / "log.jsonl"
    log.unlink(missing_ok=True)
    with simulator(folder, json.dumps({"latency": LATENCY, "log": str(log)} | server)):
        measure([*GPTFLOW, "run", "spec.yaml", "--fresh", "--quiet"], cwd=folder, check=False)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    answered = [entry for entry in entries if entry["status"] == 200]
    ended: float = max(entry["time"] + entry["latency_s"] for entry in answered)
    began: float = min(entry["time"] for entry in entries)
    return len(answered) / (ended - began)


def main() -> None:
    """Measures, prints, and fails if the bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--only", help="the name of one server")
    arguments = parser.parse_args()
    missed = False
    for name, server in SERVERS.items():
        if arguments.only not in (None, name):
            continue
        most = server.get("concurrency", FIXED[-1])
        with tempfile.TemporaryDirectory() as folder:
            rates = {
                fixed: rows_per_s(Path(folder), server, fixed, arguments.rows)
                for fixed in FIXED
                if fixed <= most
            }
            found = rows_per_s(Path(folder), server, "auto", arguments.rows)
        best = max(rates, key=lambda fixed: rates[fixed])
        share = found / rates[best]
        missed |= share < BAR
        told = "   ".join(f"{fixed}: {rate:,.0f}/s" for fixed, rate in rates.items())
        print(f"{name:<18} {told}   auto: {found:,.0f}/s")
        print(
            f"{'':<18} auto is {share:.1%} of the best ({best}), the bar is {BAR:.0%}", flush=True
        )
    sys.exit(missed)


if __name__ == "__main__":
    main()
