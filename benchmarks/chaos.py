"""Crashes: runs are killed a hundred times, and every promise is checked after each kill.

    python benchmarks/chaos.py [--kills 100] [--seed 1] [--rows 600]

Killed at random moments, by the number of requests, at named points of the program, by signals that
ask nicely, and by a second one that does not. The server limits, fails and breaks connections
meanwhile. A run that comes to its end is checked as a whole, and the next one begins. What is
checked stands in invariants.py. The seed decides kills, data and failures; the clock does the rest.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invariants import Expected, Invariants, Session
from kills import LAUNCHER, Kill, Strike, draw_kill
from measuring import ENVIRONMENT, GPTFLOW, write_config

from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer

CONCURRENCY = 16
KEYS = 4
SHARED = "Think of a colour."
SPEC = f"""
name: chaos
source: {{path: rows.jsonl, id: number}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps:
  - name: colour                   # the same question for every row, and not deterministic
    prompt: {SHARED}
    model: {{temperature: 1}}
    extract: {{colour: text}}
  - name: label
    prompt: "Label row {{{{ number }}}}."
    extract:
      label: {{json: label, one_of: [good, bad]}}
      echo: {{json: number, type: int}}
    on_invalid: {{reask: 2, then: fail}}
  - name: apology
    when: label == 'bad'
    prompt: "Apologise to row {{{{ number }}}}."
    model: {{temperature: 1}}
    extract: {{apology: text}}
parallelism: {{concurrency: {CONCURRENCY}}}
limits: {{timeout_s: 5, attempts: 8}}
output: {{path: out.jsonl}}
"""
SCENARIO = {
    "latency": {"median": "20ms", "p95": "60ms"},
    "failures": {
        "rate_limit_text_only": {"share": "0.1%", "retry_after": "30ms"},
        "server_500": "1%",
        "overloaded_503": "0.5%",
        "reset_before_reply": "0.5%",
        "reset_mid_body": "0.5%",
        "blank_lines": "0.05%",
    },
}
PATIENCE_S = 40.0
"""A process that has not ended by then hangs."""


def reply_to(body: dict[str, Any]) -> str:
    """The model's reply to a question of SPEC: some are no good at first, some never are."""
    asked = [message["content"] for message in body["messages"] if message["role"] == "user"]
    if asked[-1] == SHARED:
        return "blue"
    number = int(asked[1].rstrip(".").rpartition(" ")[2])
    if asked[-1].startswith("Apologise"):
        return f"Sorry, row {number}."
    if number % 29 == 0 or (number % 7 == 0 and len(asked) == 2):
        return "Hm."
    return json.dumps({"label": "good" if number % 3 else "bad", "number": number})


def expected(rows: int) -> Expected:
    """What a run comes to, whatever happens to it."""
    done = [
        {
            "number": number,
            "colour": "blue",
            "label": "good" if number % 3 else "bad",
            "echo": number,
            "apology": None if number % 3 else f"Sorry, row {number}.",
        }
        for number in range(rows)
        if number % 29
    ]
    return Expected(rows, done, [{"number": number} for number in range(0, rows, 29)], SHARED)


class Server:
    """The simulated server; it tells a strike of each request as it comes and as it is through."""

    def __init__(self, seed: int) -> None:
        scenario = Scenario.model_validate({**SCENARIO, "seed": seed})
        self.mock = MockServer(scenario, reply=self._reply, on_request=self._note)
        self.entries: list[LogEntry] = []
        self.strike: Strike | None = None

    def _reply(self, body: dict[str, Any]) -> str:
        if self.strike is not None:
            self.strike.arrive()
        return reply_to(body)

    def _note(self, entry: LogEntry) -> None:
        self.entries.append(entry)
        if self.strike is not None:
            self.strike.answer()

    def take_entries(self) -> list[LogEntry]:
        """What was asked since the last time, once nothing is in flight."""
        calm = 0
        while calm < 3:
            time.sleep(0.003)
            calm = calm + 1 if self.mock.stats.in_flight == 0 else 0
        taken, self.entries = self.entries, []
        return taken


@dataclass(slots=True)
class Run:
    """One run of the spec, from its first process to its last."""

    folder: Path
    server: Server
    invariants: Invariants
    sessions: list[Session] = field(default_factory=list)

    def is_killed_by(self, kill: Kill) -> bool:
        """Has one process work until it is killed; False where it came to its end before that."""
        launcher = [sys.executable, str(LAUNCHER), kill.point] if kill.point else GPTFLOW
        code = self._work(launcher, kill)
        if code in (0, 1):
            return False
        self.sessions[-1].is_killed = True
        if code not in kill.exit_codes(has_asked=bool(self.sessions[-1].entries)):
            self.invariants.broken.append(f"{kill}: it ended with {code}")
        return True

    def finish(self) -> None:
        """Has it work to its end, and once more, when there is nothing left to do."""
        for what in ("the last process", "one process more"):
            before = [path.read_bytes() for path in sorted(self.folder.glob("out*"))]
            code = self._work(GPTFLOW, None, what)
            if code != 1:
                self.invariants.broken.append(f"{what} ended with {code}")
        after = [path.read_bytes() for path in sorted(self.folder.glob("out*"))]
        if self.sessions[-1].entries or before != after:
            self.invariants.broken.append("a finished run was worked on again")
        self.invariants.check_end()

    def _work(self, command: list[str], kill: Kill | None, name: str = "") -> int:
        """One process; gives its exit code."""
        process = subprocess.Popen(
            [*command, "run", "spec.yaml", "--quiet"],
            cwd=self.folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.server.strike = Strike(kill, process) if kill else None
        try:
            _, told = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, told = process.communicate()
            self.invariants.broken.append(f"{kill or name}: it hangs")
        is_starting = process.returncode == -signal.SIGINT  # Python is not in our hands yet
        if b"Traceback" in told and not is_starting:
            self.invariants.broken.append(f"{kill or name}: {told.decode()}")
        may_repeat = 0 if kill is None or kill.is_gentle else CONCURRENCY
        self.sessions.append(Session(str(kill or name), self.server.take_entries(), may_repeat))
        self.invariants.check(self.sessions[-1])
        return process.returncode


def begin(folder: Path, server: Server, rows: int, old_output: str | None) -> Run:
    """A folder with all that a run needs, in half of the cases with an output from before."""
    folder.mkdir()
    (folder / "spec.yaml").write_text(SPEC)
    lines = (json.dumps({"number": number}) for number in range(rows))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    if old_output is not None:
        (folder / "out.jsonl").write_text(old_output)
    write_config(folder, server.mock.base_url, KEYS)
    return Run(folder, server, Invariants(folder, "chaos", expected(rows)))


def kill_all(kills: list[Kill], folder: Path, server: Server, rows: int) -> list[Run]:
    """Runs, one after the other, until each kill has had its process."""
    runs: list[Run] = []
    left = list(reversed(kills))
    while left:
        number = len(runs)
        run = begin(folder / str(number), server, rows, "old\n" if number % 2 else None)
        runs.append(run)
        while left and run.is_killed_by(left.pop()):
            pass
        run.finish()
        if run.invariants.broken:
            break
    return runs


def main() -> None:
    """Kills, checks, prints, and fails if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=600)
    arguments = parser.parse_args()
    luck = random.Random(arguments.seed)
    kills = [draw_kill(number, luck) for number in range(1, arguments.kills + 1)]
    server = Server(arguments.seed)
    began_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with server.mock:
        runs = kill_all(kills, folder, server, arguments.rows)
    report(runs, f"{time.monotonic() - began_s:.0f} s; seed {arguments.seed}")
    broken = [what for run in runs for what in run.invariants.broken]
    if broken:
        sys.exit("\n".join(["BROKEN:", *broken, f"look at {folder}/{len(runs) - 1}"]))
    shutil.rmtree(folder)


def report(runs: list[Run], closing: str) -> None:
    """What the kills have cost."""
    sessions = [session for run in runs for session in run.sessions]
    killed = [session for session in sessions if session.is_killed]
    hard = [s for s in killed if s.may_repeat and s.entries]
    gentle = [s for s in killed if not s.may_repeat and s.entries]
    again = [session.asked_again for session in hard] or [0]
    checks = [run.invariants for run in runs]
    print(
        f"{len(killed)} processes killed in {len(runs)} runs, {len(hard) + len(gentle)} of them "
        f"among their calls; {sum(len(s.entries) for s in sessions):,} requests; {closing}"
    )
    print(
        f"rows lost {sum(check.lost for check in checks)}, "
        f"doubled {sum(check.doubled for check in checks)}; "
        f"stored answers asked for again {sum(check.repeated for check in checks)}"
    )
    print(
        f"calls asked again: {sum(again) / len(again):.1f} a kill, at most {max(again)}, with "
        f"{CONCURRENCY} in flight ({sum(s.paid_again for s in hard)} of {sum(again)} had been "
        f"answered); {sum(s.asked_again for s in gentle)} after {len(gentle)} gentle signals"
    )


if __name__ == "__main__":
    main()
