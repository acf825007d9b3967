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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_promises import Evidence, Mix, broken_promises, print_figures
from measuring import ENVIRONMENT, GPTFLOW, simulator

from gptflow.mock.failure.catalogue import CATALOGUE, GROUPS

ATTEMPTS, TIMEOUT_S = 5, 3
LONG = 1000
"""From so many calls on the failures that stop a run are tried, too."""
STARTUP_S = 0.5
"""About as long as the run takes to its first request."""
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
GOOD = names_of("Status 200 with an odd answer")
GOOD |= {"finish_length", "finish_null", "finish_unknown", "big_header", "blank_lines"}
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
        return cls(1 + 14 * whole, 0.8 + 19 * whole, 1.5 + 38.5 * whole, 0.3 + 29.7 * whole)


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
    once = [
        {"name": n, "after": 4 * place, "first": 1, **wait_of(n)}
        for place, n in enumerate(sorted(shares))
    ]
    rules = [*once, *({"name": n, "share": share_of(n), **wait_of(n)} for n in sorted(shares))]
    return {
        "seed": seed,
        "latency": {"uniform": ["20ms", "100ms"]},
        "keys": keys,
        "unknown_keys": "refuse",
        "failures": [spent, *once, *rules],
        "outages": [{"at": timeline.gone_s, "lasts": timeline.gone_for_s}],
        "log": "log.jsonl",
    }


def planned(calls: int, timeline: Timeline) -> Mix:
    """What is to happen, for those who check."""
    deadly = {key_of(name)[-4:]: name for name in OF_A_KEY}
    return Mix(
        calls=calls,
        attempts=ATTEMPTS,
        timeout_s=TIMEOUT_S,
        deadly={**deadly, key_of("spent later")[-4:]: "insufficient_quota"},
        uncharged=frozenset(OF_A_KEY | RESTS),
        good=frozenset(GOOD),
        drawn=frozenset(CATALOGUE) - {*STOP_A_RUN},
        gone_s=timeline.gone_s,
        back_s=timeline.gone_s + timeline.gone_for_s,
        added=key_of("added")[-4:],
        removed=key_of("removed")[-4:],
        changed_s=timeline.keys_changed_s + STARTUP_S,
    )


def write_keys(folder: Path, base_url: str, names: list[str]) -> None:
    """A config.json, renamed into its place as careful editors do."""
    key_list = [{"name": n, "api_key": key_of(n), "base_url": base_url} for n in names]
    new = folder / "config.new"
    new.write_text(json.dumps({"key_list": key_list}))
    new.chmod(0o600)
    new.replace(folder / "config.json")


def start(folder: Path) -> tuple[int, str]:
    """One run: its exit code, and what it printed."""
    command = [*GPTFLOW, "run", "spec.yaml", "--json"]
    ended = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if ended.returncode not in (0, 1, 3):
        sys.exit(f"the run ended with {ended.returncode}:\n{ended.stderr}")
    return ended.returncode, ended.stdout


def write_rows(folder: Path, calls: int) -> None:
    """The spec, and a row for each call."""
    (folder / "spec.yaml").write_text(SPEC)
    lines = (json.dumps({"number": number}) for number in range(calls))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")


def run(folder: Path, mix: Mix, timeline: Timeline, seed: int) -> Evidence:
    """One run under the whole mix."""
    write_rows(folder, mix.calls)
    deadly = sorted(OF_A_KEY)
    first = [*map(str, range(KEYS)), "spent later", "removed", *deadly[::2]]
    later = [*map(str, range(KEYS)), "spent later", "added", *deadly]
    with simulator(folder, json.dumps(scenario(timeline, seed))) as base_url:
        write_keys(folder, base_url, first)
        change = threading.Timer(
            timeline.keys_changed_s + STARTUP_S, write_keys, (folder, base_url, later)
        )
        change.start()
        code, printed = start(folder)
        change.cancel()
    return Evidence.read(folder, code, printed)


def runs_that_should_stop(folder: Path) -> Iterator[str]:
    """What is wrong with the runs that meet a failure for which no other key or row helps."""
    write_rows(folder, 20)
    rules = [{"name": n, "key": f"sk-{n}", "after": 5, "first": 15} for n in STOP_A_RUN]
    with simulator(folder, json.dumps({"latency": "20ms", "failures": rules})) as base_url:
        for name in STOP_A_RUN:
            key = {"api_key": f"sk-{name}", "base_url": base_url}
            (folder / "config.json").write_text(json.dumps({"key_list": [key]}))
            code, printed = start(folder)
            said = json.loads(printed)
            if code != 3 or said["status"] != "stopped" or said["failed"]:
                yield f"after {name} the run ended with {code}: {printed}"
        (folder / "config.json").write_text(
            json.dumps({"key_list": [{"api_key": "sk-good", "base_url": base_url}]})
        )
        code, printed = start(folder)
        if code != 0:
            yield f"the run that should have gone on ended with {code}: {printed}"


def main() -> None:
    """Runs, checks, prints, and fails if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    timeline = Timeline.of(arguments.calls)
    mix = planned(arguments.calls, timeline)
    with tempfile.TemporaryDirectory() as name:
        evidence = run(Path(name), mix, timeline, arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        broken = list(broken_promises(mix, evidence))
        if arguments.calls >= LONG:
            broken += runs_that_should_stop(Path(name))
    print_figures(mix, evidence)
    print("\n".join(broken[:20]) or "every promise was kept")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
