"""A folder with a run in batch mode, and the server that it asks."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gptflow.cli.main import main
from gptflow.mock.app import Stats
from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.store.store import Store

SPEC = """
name: crash
source: {path: rows.jsonl, id: number}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - name: label
    prompt: "Label row {{ number }}."
    extract: {label: {choice: [good, bad]}}
  - name: apology
    when: label == 'bad'
    prompt: "Apologise to row {{ number }}."
    extract: {apology: text}
parallelism: {mode: batch, batch: {requests: 4}}
output: {path: out.jsonl}
"""
ROWS = 10


def reply_to(body: dict[str, Any]) -> str:
    """Rows with an odd number are good."""
    texts = [str(message["content"]) for message in body["messages"]]
    asked, number = texts[-1], max(int(n) for n in re.findall(r"row (\d+)", " ".join(texts)))
    if asked.startswith("Apologise"):
        return f"Sorry, {number}."
    return "good" if number % 2 else "bad"


def done(*numbers: int) -> list[dict[str, Any]]:
    """The rows of the output."""
    return [
        {
            "number": number,
            "label": "good" if number % 2 else "bad",
            "apology": None if number % 2 else f"Sorry, {number}.",
        }
        for number in numbers
    ]


class Desk:
    """Runs the program in this process, in front of a simulated provider."""

    def __init__(self, folder: Path, open_servers: ExitStack) -> None:
        self.folder = folder
        self._open_servers = open_servers
        self.requests: list[LogEntry] = []
        self.stats = Stats()
        """What the last server has seen so far."""
        self._awaited: dict[int, threading.Event] = {}
        self.on_entry: Callable[[LogEntry], object] = lambda _: None
        """Told of each request in the thread of the server."""

    def write_rows(self, rows: int) -> None:
        text = "".join(json.dumps({"number": number}) + "\n" for number in range(rows))
        (self.folder / "rows.jsonl").write_text(text)

    def write_keys(self, *keys: dict[str, Any]) -> None:
        (self.folder / "config.json").write_text(json.dumps({"key_list": keys}))
        (self.folder / "config.json").chmod(0o600)

    def serve(self, **changes: Any) -> str:
        """A server with these changes of the scenario, and one key for it; its base URL."""
        batch = {"latency": "0s", **changes.pop("batch", {})}
        reply = changes.pop("reply", reply_to)
        scenario = Scenario.model_validate({"batch": batch, **changes})
        server = MockServer(scenario, reply=reply, on_request=self._note)
        base_url = self._open_servers.enter_context(server).base_url
        self.stats = server.stats
        self.write_keys({"api_key": "sk-test-1234567890", "base_url": base_url})
        return base_url

    def _note(self, entry: LogEntry) -> None:
        self.requests.append(entry)
        self.on_entry(entry)
        if (event := self._awaited.get(len(self.submitted()))) is not None:
            event.set()

    def has_submitted(self, batches: int) -> threading.Event:
        """Is set once so many batches were made at the provider; to be asked for before."""
        return self._awaited.setdefault(batches, threading.Event())

    def run(self, *arguments: str) -> object:
        """The exit code of `gptflow run`."""
        with pytest.raises(SystemExit) as ended:
            main(("run", "spec.yaml", "--quiet", *arguments))
        return ended.value.code

    def output(self, name: str = "out.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def chats(self) -> list[str]:
        """The questions that were asked one by one."""
        return [str(entry.user) for entry in self.requests if "chat" in entry.path]

    def submitted(self) -> list[int]:
        """How many calls each batch had that was made at the provider."""
        return lines_of(self.requests, "/v1/batches")

    def uploaded(self) -> list[int]:
        return lines_of(self.requests, "/v1/files")

    def store(self) -> Store:
        return Store.open(self.folder / ".gptflow/crash.db")


def lines_of(requests: list[LogEntry], path: str) -> list[int]:
    """The lines of what was posted to a path, in order."""
    return [
        entry.lines
        for entry in requests
        if (entry.method, entry.path, entry.status) == ("POST", path, 200)
        and entry.lines is not None
    ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "spec.yaml").write_text(SPEC)
    with ExitStack() as servers:
        made = Desk(tmp_path, servers)
        made.write_rows(ROWS)
        yield made
