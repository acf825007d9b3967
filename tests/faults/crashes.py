"""Runs that are killed: the program at a named point, and what must hold in what it leaves."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gptflow.cli.main import main
from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.store.ledger import split_keys
from gptflow.store.migration import newest_version
from gptflow.store.reader import StoreReader

LAUNCHER = Path(__file__).with_name("killed_at.py")
ROWS = 40
CONCURRENCY = 6
COMMAND = ("run", "spec.yaml", "--quiet")
INVALID = 5
"""The row whose reply fits nothing: it fails."""
SPEC = f"""
name: crash
source: {{path: rows.jsonl, id: number}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps:
  - name: label
    prompt: "Label row {{{{ number }}}}."
    extract: {{label: {{choice: [good, bad]}}}}
  - name: apology
    when: label == 'bad'
    prompt: "Apologise to row {{{{ number }}}}."
    model: {{temperature: 1}}
    extract: {{apology: text}}
parallelism: {{concurrency: {CONCURRENCY}}}
output: {{path: out.jsonl}}
"""
DONE = [
    {
        "number": number,
        "label": "good" if number % 2 else "bad",
        "apology": None if number % 2 else f"Sorry, {number}.",
    }
    for number in range(ROWS)
    if number != INVALID
]
"""The rows of the output."""
CALLS = ROWS + ROWS // 2


def reply_to(body: dict[str, Any]) -> str:
    """What the model says to a question of SPEC."""
    asked = str(body["messages"][-1]["content"])
    number = int(asked.rstrip(".").rpartition(" ")[2])
    if asked.startswith("Apologise"):
        return f"Sorry, {number}."
    return "Hm." if number == INVALID else ("good" if number % 2 else "bad")


@dataclass
class Scene:
    """A folder with a run to be killed, and the server that it asks."""

    folder: Path
    requests: list[LogEntry] = field(default_factory=list)
    """What is through, in this order."""
    on_arrival: Callable[[], None] = lambda: None
    """Called in the server's thread as a request arrives."""
    stored: set[str] = field(default_factory=set)
    """The requests whose replies are in the store, at the last look."""
    looked_at: int = 0
    """How many requests there had been then."""

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Starts a program in the folder, with both outputs in pipes."""
        environment = {n: v for n, v in os.environ.items() if not n.startswith("OPENAI_")}
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            env=environment,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            **options,
        )

    def shell(self, script: str) -> subprocess.Popen[str]:
        """Starts a script in bash."""
        return subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **options: Any) -> subprocess.Popen[str]:
        """Starts the run."""
        return self.start("-m", "gptflow", "run", "spec.yaml", **options)

    def kill_at(self, point: str, *command: str, **options: Any) -> None:
        """Runs, or does another command, until SIGKILL at a point of killed_at.py.

        The point must be reached.
        """
        process = self.start(str(LAUNCHER), point, *(command or COMMAND), **options)
        told = "".join(process.communicate(timeout=60))
        assert process.returncode == -signal.SIGKILL, f"{point} was not reached: {told}"
        self.look()

    def signal_at(self, point: str) -> tuple[int, str]:
        """Runs with a signal, that may be survived, at a point; the exit code and what it said."""
        process = self.start(str(LAUNCHER), point, *COMMAND)
        told = "".join(process.communicate(timeout=60))
        assert "Traceback" not in told
        self.look()
        return process.returncode, told

    def call_at(self, number: int, action: Callable[[], None]) -> None:
        """Has something done, in the server's thread, as a request arrives; counted from 1."""
        arrivals = itertools.count(1)

        def arrive() -> None:
            if next(arrivals) == number:
                action()

        self.on_arrival = arrive

    def look(self) -> None:
        """Checks all that must hold of what a process has left."""
        asked = {str(entry.request)[:29] for entry in self.requests[self.looked_at :]}
        assert not asked & self.stored, "asked again, though the answer is stored"
        self.looked_at = len(self.requests)
        assert not self.output.exists() or self.rows() == DONE
        if self.store.exists():
            self._look_into_store()

    def _look_into_store(self) -> None:
        with closing(sqlite3.connect(self.store)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
                return  # killed before there was a table in it
            if database.execute("PRAGMA user_version").fetchone() < (newest_version(),):
                return  # killed between two migrations
            calls = database.execute("SELECT call_key, body FROM calls").fetchall()
        self.stored = {json.loads(body)["id"].removeprefix("chatcmpl-") for _, body in calls}
        assert len(self.stored) == len(calls), "two replies to the same call"
        with StoreReader(self.store) as reader:
            run = reader.latest_run()
            if run is None:
                return
            assert sum(reader.counts(run.run_id)) == run.rows == ROWS
            pending = {row.position for row in reader.pending(run.run_id)}
            results = list(reader.results(run.run_id))
        assert {result.position for result in results} == set(range(ROWS)) - pending
        keys = {key for key, _ in calls}
        assert all(set(split_keys(b"".join(result.calls))) <= keys for result in results)

    def finish(self) -> None:
        """The same command again: to the end, in this process; and once more, for nothing."""
        assert self._command() == 1  # one row fails
        self.look()
        assert self.rows() == DONE
        (failed,) = [json.loads(line) for line in self.failed.read_text().splitlines()]
        assert failed["row"] == {"number": INVALID}
        before = (self.output.read_bytes(), self.failed.read_bytes(), len(self.requests))
        assert self._command() == 1
        assert (self.output.read_bytes(), self.failed.read_bytes(), len(self.requests)) == before

    def _command(self) -> object:
        with pytest.raises(SystemExit) as ended:
            main(COMMAND)
        return ended.value.code

    def asked_again(self) -> int:
        """Requests that had been asked before."""
        return len(self.requests) - len(Counter(entry.request for entry in self.requests))

    @property
    def store(self) -> Path:
        return self.folder / ".gptflow/crash.db"

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    @property
    def failed(self) -> Path:
        return self.folder / "out.failed.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        text = self.output.read_text(encoding="utf-8")
        assert text.endswith("\n") or not text
        return [json.loads(line) for line in text.split("\n")[:-1]]


@contextmanager
def staged(folder: Path, **changes: Any) -> Iterator[Scene]:
    """SPEC with its rows, and a server that answers; `changes` are the scenario's."""
    scene = Scene(folder)

    def reply(body: dict[str, Any]) -> str:
        scene.on_arrival()
        return reply_to(body)

    scenario = Scenario.model_validate({"latency": "5ms", **changes})
    with MockServer(scenario, reply=reply, on_request=scene.requests.append) as server:
        (folder / "spec.yaml").write_text(SPEC)
        rows = (json.dumps({"number": number}) + "\n" for number in range(ROWS))
        (folder / "rows.jsonl").write_text("".join(rows))
        key = {"api_key": "sk-test-1234567890", "base_url": server.base_url}
        (folder / "config.json").write_text(json.dumps({"key_list": [key]}))
        (folder / "config.json").chmod(0o600)
        yield scene
