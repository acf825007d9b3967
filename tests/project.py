"""A folder as a user has it, a simulated server, and the real program to run there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gptflow.cli.main import main
from gptflow.mock.app import Stats
from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.spec.load import read_spec
from gptflow.spec.model import Spec

SPEC = """
name: reviews
vars: {labels: [positive, negative]}
source: {path: reviews.jsonl}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - name: label
    prompt: "Label {{ text }} as one of {{ labels | join(', ') }}."
    extract:
      label: {choice: "{{ labels }}"}
  - name: apology
    when: label == 'negative'
    prompt: "Apologise for {{ text }}."
    extract: {apology: text}
output: {path: out/labels.jsonl}
"""

REVIEWS = """
name: reviews
source: {path: reviews.jsonl}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - name: label
    prompt: "Label review {{ number }}."
    extract: {label: text}
output: {path: out/labels.jsonl}
"""
"""One question about each row of numbers; tests add their limits and parallelism at its end."""

REPLIES = [
    {"match": "^Label .*bad", "text": "It is negative."},
    {"match": "^Label", "text": "It is positive."},
    {"match": "^Apologise", "text": "We are sorry."},
]
"""What the simulated model says to SPEC's questions."""


def _is_foreign(variable: str) -> bool:
    """Whether a variable of the environment would bring in a key of whoever runs the tests."""
    return variable.startswith("OPENAI_")


class _Screen(io.TextIOWrapper):
    """What takes the place of a standard stream."""

    def __init__(self) -> None:
        self._written = io.BytesIO()
        super().__init__(self._written, encoding="utf-8")

    def said(self) -> str:
        self.flush()
        return self._written.getvalue().decode()


def _wait(until: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not until() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert until()


@dataclass
class Project:
    """A folder with a spec, data and config, and the program to run in it."""

    folder: Path
    base_url: str
    requests: list[LogEntry] = field(default_factory=list)
    """What the simulated server was asked and has answered, in order."""
    stats: Stats = field(default_factory=Stats)
    """What it has seen so far."""

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def write_rows(self, rows: list[dict[str, Any]], name: str = "reviews.jsonl") -> None:
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def write_config(self, *keys: str, base_url: str | None = None) -> None:
        key_list = [{"api_key": key, "base_url": base_url or self.base_url} for key in keys]
        self.write("config.json", json.dumps({"key_index": 0, "key_list": key_list}))

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Starts the program without waiting for it."""
        environment = {n: v for n, v in os.environ.items() if not _is_foreign(n)}
        return subprocess.Popen(
            [sys.executable, "-m", "gptflow", *arguments],
            cwd=self.folder,
            env=environment | options.pop("env", {}),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def gptflow(self, *arguments: str, code: int = 0, **options: Any) -> str:
        """Runs the program to its end; what it said on stdout, then on stderr.

        With options for its process it has one of its own, which costs half a second of CPU.
        """
        out, err = self._ended(arguments, code, options)
        assert "Traceback" not in out + err
        return out + err

    def run_json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """`gptflow run ... --json`: the object that it prints."""
        return dict(json.loads(self._ended(("run", *arguments, "--json"), code, {})[0]))

    def _ended(
        self, arguments: tuple[str, ...], code: int, options: dict[str, Any]
    ) -> tuple[str, str]:
        if not options:
            ended, out, err = self._here(arguments)
        else:
            process = self.start(*arguments, **options)
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()  # where it hangs; an ended process is left alone
            ended = process.returncode
        assert ended == code, out + err
        return out, err

    def _here(self, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        """The program in this process: its exit code, stdout and stderr."""
        out, err = _Screen(), _Screen()
        foreign = {name: os.environ.pop(name) for name in list(os.environ) if _is_foreign(name)}
        try:
            with (
                chdir(self.folder),
                redirect_stdout(out),
                redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                main(arguments)
        finally:
            os.environ.update(foreign)
        assert isinstance(ended.value.code, int)
        return ended.value.code, out.said(), err.said()

    def output(self, name: str = "out/labels.jsonl") -> list[dict[str, Any]]:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.endswith("\n") or not text
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def wait_for_requests(self, count: int) -> None:
        """Waits until the server has answered so many since the last time of `asked`."""
        _wait(lambda: len(self.requests) >= count)

    def wait_for_calls_in_flight(self, count: int) -> None:
        """Waits until so many are on their way at the same time."""
        _wait(lambda: self.stats.in_flight >= count)

    def asked(self) -> list[str]:
        """The last user messages of all requests since the last time this was asked."""
        asked = [str(entry.user) for entry in self.requests]
        self.requests.clear()
        return asked


def loaded(path: str | Path) -> Spec:
    """A spec that has no problems."""
    draft = read_spec(path)
    assert draft.problems == []
    assert draft.spec is not None
    return draft.spec


@contextmanager
def serving(folder: Path, changes: Mapping[str, Any]) -> Iterator[Project]:
    """SPEC with three reviews, and a server that answers it; `changes` are the scenario's."""
    scenario = {"reply": REPLIES, "models": ["gpt-4o-mini"], **changes}
    requests: list[LogEntry] = []
    with MockServer(Scenario.model_validate(scenario), on_request=requests.append) as server:
        made = Project(folder, server.base_url, requests, server.stats)
        made.write("spec.yaml", SPEC)
        made.write_rows(
            [{"id": 1, "text": "good"}, {"id": 2, "text": "bad"}, {"id": 3, "text": "fine"}]
        )
        made.write_config("sk-test-1234567890")
        yield made
