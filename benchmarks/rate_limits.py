"""Four keys whose limits are not told: the share of the limits that is used, and what is refused.

    python benchmarks/rate_limits.py [--rows 3000] [--only NAME] [--mode process]

Each key may send 1,200 requests a minute (a second's worth at once), a reply takes 200 ms. The
shares are read from the simulator's log: what was answered between the first request and the last,
over the sum of the limits in that time. Each variant takes about 40 seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from measuring import GPTFLOW, measure, simulator

PER_MINUTE, KEYS = 1200, 4
SPEC = """
name: limits
source: {path: rows.jsonl}
model: {name: simulated, temperature: 0, max_tokens: 50}
steps: [{name: ask, prompt: "{{ text }}", extract: {answer: text}}]
output: {path: out.jsonl}
"""
REQUESTS: dict[str, Any] = {"rpm": PER_MINUTE, "burst": 1}
TOKENS: dict[str, Any] = {"tpm": 50 * PER_MINUTE, "burst": 1}
SPENT: dict[str, Any] = {"failure": "insufficient_quota"}
INVALID: dict[str, Any] = {"failure": "invalid_api_key"}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "requests": [REQUESTS] * KEYS,
    "tokens": [TOKENS] * KEYS,
    "requests and tokens": [REQUESTS | TOKENS] * KEYS,
    "one spent, one invalid, one added": [REQUESTS, SPENT, REQUESTS, INVALID, REQUESTS],
    "one organization": [REQUESTS | {"organization": "org-1"}] * KEYS,
    "azure": [REQUESTS | {"headers": "azure"}] * KEYS,
    "anthropic": [REQUESTS | {"headers": "anthropic"}] * KEYS,
    "fixed windows": [REQUESTS | {"window": "fixed"}] * KEYS,
    "no headers, the wait is named": [REQUESTS | {"headers": "none", "wait": "both"}] * KEYS,
    "no headers, no wait": [REQUESTS | {"headers": "none"}] * KEYS,
}
ADDED = 4
"""The place of the key that is written into config.json while the run goes on."""
ADDED_AFTER_S = 8.0
LEAST_SHARE, MOST_REFUSED = 0.97, 0.01
LEAST_SHARE_OF_CREW = 0.95
LEAST_SHARE_SILENT, MOST_REFUSED_SILENT = 0.90, 0.02


def run(
    folder: Path, keys: list[dict[str, Any]], rows: int, mode: str = "async"
) -> tuple[float, float]:
    """The share of the limits that was used, and the share of requests that was refused."""
    (folder / "spec.yaml").write_text(SPEC)
    lines = (json.dumps({"text": f"Row {n}."}) for n in range(rows))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    log = folder / "log.jsonl"
    names = [f"sk-benchmark-of-limits-{n}" for n in range(len(keys))]
    scenario = {"latency": "200ms", "keys": dict(zip(names, keys, strict=True)), "log": str(log)}
    with simulator(folder, json.dumps(scenario)) as base_url:
        key_list = [
            {"api_key": name, "base_url": base_url, "organization": rule.get("organization")}
            for name, rule in zip(names, keys, strict=True)
        ]
        write_keys(folder, key_list[:ADDED])
        add = threading.Timer(ADDED_AFTER_S, write_keys, (folder, key_list))
        add.start()
        where = ["--mode", mode, "--workers", "2"]
        measure([*GPTFLOW, "run", "spec.yaml", "--fresh", "--quiet", *where], cwd=folder)
        add.cancel()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    answered = [entry for entry in entries if entry["status"] == 200]
    allowed = allowance(keys, entries) * PER_MINUTE / 60
    return len(answered) / allowed, 1 - len(answered) / len(entries)


def write_keys(folder: Path, key_list: list[dict[str, Any]]) -> None:
    """A config.json, renamed into its place as careful editors do."""
    given = [{k: v for k, v in key.items() if v} for key in key_list]
    new = folder / "config.new"
    new.write_text(json.dumps({"key_list": given}))
    new.replace(folder / "config.json")


def allowance(keys: list[dict[str, Any]], entries: list[dict[str, Any]]) -> float:
    """For how many seconds of one key's limit there was time, all keys together."""
    ended = max(entry["time"] for entry in entries if entry["status"] == 200)
    began = min(entry["time"] for entry in entries)
    if keys[0].get("organization"):
        return float(ended - began)
    total = sum("failure" not in rule for rule in keys[:ADDED]) * (ended - began)
    if len(keys) > ADDED:
        total += ended - began - ADDED_AFTER_S  # from when it was written, not from its first call
    return float(total)


def main() -> None:
    """Measures, prints, and fails if a bar is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--only", help="the name of one variant")
    parser.add_argument("--mode", default="async", help="where the work runs, with 2 workers")
    arguments = parser.parse_args()
    missed = False
    for name, keys in VARIANTS.items():
        if arguments.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            share, refused = run(Path(folder), keys, arguments.rows, arguments.mode)
        silent = keys[0].get("headers") == "none"
        least = LEAST_SHARE_SILENT if silent else LEAST_SHARE
        if arguments.mode != "async":
            least = min(least, LEAST_SHARE_OF_CREW)
        most = MOST_REFUSED_SILENT if silent else MOST_REFUSED
        missed |= share < least or refused > most
        print(
            f"{name:<30} {share:>6.1%} of the limits (bar {least:.0%})   "
            f"refused {refused:>5.2%} (bar {most:.0%})",
            flush=True,
        )
    sys.exit(missed)


if __name__ == "__main__":
    main()
