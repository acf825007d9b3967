"""A simulated server in a process of its own, which can be killed and started again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class MockProcess:
    """`gptflow mock` on a port that stays the same; its log goes on from one life to the next."""

    folder: Path
    scenario: dict[str, Any]
    port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Returns when it answers."""
        path = self.folder / "scenario.json"
        path.write_text(json.dumps({**self.scenario, "log": "requests.jsonl"}))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gptflow", "mock", str(path), "--port", str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"http://127.0.0.1:(\d+)/v1", self.process.stdout.readline())
        assert found, "the simulator did not start"
        self.port = int(found[1])

    def kill(self) -> None:
        """Connections break, and new ones are refused."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def stop(self) -> None:
        """It ends by itself, and its log is whole."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.communicate(timeout=20)
            finally:
                self.kill()

    def log(self) -> list[dict[str, Any]]:
        """What it was asked so far, in all its lives.

        The last 50 ms are missing while it works, and of each life that was killed.
        """
        path = self.folder / "requests.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]  # the last may be half a line


@contextmanager
def mock_process(folder: Path, scenario: dict[str, Any]) -> Iterator[MockProcess]:
    """A server that answers, until the test is over."""
    mock = MockProcess(folder, scenario)
    mock.start()
    try:
        yield mock
    finally:
        mock.kill()
