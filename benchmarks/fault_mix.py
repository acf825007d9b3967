"""Every failure that the simulator knows, at once, in one run; every promise about them checked.

    python benchmarks/fault_mix.py [--calls 20000] [--seed 1]

About half of all requests fail: refusals, errors of the server, answers of status 200 that are
none, connections that break, hang or drip. Each failure that takes a key away has a key of its own;
one key is spent in the middle, one is added and one is removed while the run works, and the server
is gone for a while. The three failures that stop a run by design get a run of their own.

Checked from the simulator's log, the output and the failed rows; ends with 1 if a promise is
broken. The same seed draws the same failures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_promises import Evidence, Mix, broken_promises, print_figures
from measuring import ENVIRONMENT, GPTFLOW, simulator

from gptflow.mock.failure.catalogue import CATALOGUE, GROUPS

ATTEMPTS, TIMEOUT_S, CONCURRENCY = 5, 3, 400
KEYS, RPM, TPM = 8, 3600, 1_000_000
"""The keys that work, and what each may send."""
SPEC = f"""
name: fault-mix
source: {{path: rows.jsonl}}
model: {{name: simulated, temperature: 0}}
steps: [{{name: ask, prompt: "Row {{{{ number }}}}.", extract: {{answer: text}}}}]
parallelism: {{concurrency: auto}}
limits: {{timeout_s: {TIMEOUT_S}, attempts: {ATTEMPTS}}}
output: {{path: out.jsonl}}
"""

STOP_A_RUN = ("ip_not_allowed", "unsupported_region", "proxy_auth_407")
PASSING_LIMITS = {"openrouter_in_flight", "error_and_choices"}
HOURS = {"rate_limit_rpd", "rate_limit_tpd", "azure_day"}
"""Rate limits for which a key rests longer than this run takes."""
NO_LIMITS = {"request_too_large", "groq_too_large_413", "groq_capacity_498"}
"""Among the limits, but of the call or of the server."""
HANGING = {"hang", "hang_mid_body", "slow_drip"}


def names_of(*groups: str) -> set[str]:
    """The failures of some groups of the catalogue."""
    return {failure.name for group in groups for failure in GROUPS[group]}


OF_A_KEY = (
    names_of("Money", "Access", "Money of other providers", "Access of other providers")
    | {"wrong_path", "wrong_path_html", "redirect_302", "gemini_nothing_granted"}
    | HOURS
) - {*STOP_A_RUN, *PASSING_LIMITS}
RESTS = names_of("Limits", "Limits of other providers") | PASSING_LIMITS
RESTS -= OF_A_KEY | NO_LIMITS
ODD_BUT_GOOD = names_of("Status 200 with an odd answer")
REJECTED = names_of("The request", "The request at other providers") - OF_A_KEY


def share_of(name: str) -> float:
    """How many of the requests fail like this: about half of them in all."""
    if name in RESTS:
        return 0.0005
    if name in HANGING:
        return 0.002
    if name in REJECTED or name in NO_LIMITS:
        return 0.002
    return 0.008


def wait_of(name: str) -> dict[str, str]:
    """A shorter wait than the failure names by itself, where that is a minute."""
    return {"retry_after": "1s"} if name == "gateway_quota_403" else {}


@dataclass(frozen=True)
class Timeline:
    """When what happens, in seconds after the first request."""

    key_spent_s: float
    keys_changed_s: float
    gone_s: float
    gone_for_s: float

    @classmethod
    def of(cls, calls: int) -> Timeline:
        """A short run has a short outage."""
        whole = min(1.0, calls / 20_000)
        return cls(1 + 14 * whole, 0.8 + 19 * whole, 1.5 + 38.5 * whole, 1.5 + 28.5 * whole)


def key_of(name: str) -> str:
    """An API key, whose last four characters tell it apart in the simulator's log."""
    names = sorted([*OF_A_KEY, "spent later", "added", "removed", *map(str, range(KEYS))])
    return f"sk-fault-mix-of-{names.index(name):04}"


def scenario(timeline: Timeline, seed: int) -> dict[str, Any]:
    """The server: half of its answers are failures."""
    working = [*map(str, range(KEYS)), "spent later", "added", "removed"]
    keys: dict[str, Any] = {key_of(name): {"rpm": RPM, "tpm": TPM, "burst": 1} for name in working}
    keys |= {key_of(name): {"failure": name} for name in OF_A_KEY}
    spent = {"name": "insufficient_quota", "key": key_of("spent later"), "at": timeline.key_spent_s}
    shares = set(CATALOGUE) - OF_A_KEY - set(STOP_A_RUN)
    once = [{"name": n, "after": 4 * place, "first": 1, **wait_of(n)} for place, n in enumerate(sorted(shares))]
    rules = [*once, *({"name": n, "share": share_of(n), **wait_of(n)} for n in sorted(shares))]
    return {
        "seed": seed,
        "latency": {"uniform": ["20ms", "100ms"]},
        "keys": keys,
        "unknown_keys": "refuse",
        "failures": [spent, *rules],
        "outages": [{"at": timeline.gone_s, "lasts": timeline.gone_for_s}],
        "log": "log.jsonl",
    }


def write_keys(folder: Path, base_url: str, names: list[str]) -> None:
    """A config.json, renamed into its place as careful editors do."""
    key_list = [{"name": n, "api_key": key_of(n), "base_url": base_url} for n in names]
    new = folder / "config.new"
    new.write_text(json.dumps({"key_list": key_list}))
    new.chmod(0o600)
    new.replace(folder / "config.json")


def run(folder: Path, calls: int, seed: int) -> tuple[Mix, Evidence]:
    """One run under the whole mix."""
    timeline = Timeline.of(calls)
    (folder / "spec.yaml").write_text(SPEC)
    lines = (json.dumps({"number": number}) for number in range(calls))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    deadly = sorted(OF_A_KEY)
    first = [*map(str, range(KEYS)), "spent later", "removed", *deadly[::2]]
    later = [*first, "added", *deadly[1::2]]
    later.remove("removed")
    with simulator(folder, json.dumps(scenario(timeline, seed))) as base_url:
        write_keys(folder, base_url, first)
        change = threading.Timer(
            timeline.keys_changed_s + 0.5, write_keys, (folder, base_url, later)
        )
        change.start()
        command = [*GPTFLOW, "run", "spec.yaml", "--json"]
        process = subprocess.run(
            command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, check=False, text=True
        )
        change.cancel()
    code, printed = process.returncode, process.stdout
    mix = Mix(
        calls,
        ATTEMPTS,
        TIMEOUT_S,
        {key_of(n)[-4:]: n for n in OF_A_KEY} | {key_of("spent later")[-4:]: "insufficient_quota"},
        frozenset(OF_A_KEY | RESTS),
        frozenset(set(CATALOGUE) - set(STOP_A_RUN)),
        (timeline.gone_s, timeline.gone_for_s),
    )
    return mix, Evidence.read(folder, code, printed)


def main() -> None:
    """Runs, checks, prints, and fails if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        mix, evidence = run(Path(name), arguments.calls, arguments.seed)
        if "--keep" in sys.argv:
            pass
        broken = list(broken_promises(mix, evidence))
    print_figures(mix, evidence)
    print("\n".join(broken[:20]) or "every promise was kept")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
