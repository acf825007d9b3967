"""A folder with keys, a simulated server, and programs to run there, for the pipelines' tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptflow.mock.log import LogEntry
from gptflow.mock.reply import ReplyText
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer

MODEL = "gpt-4o-mini"


@dataclass
class Desk:
    """Where a user of the wrapper works."""

    folder: Path
    base_url: str
    entries: list[LogEntry] = field(default_factory=list)
    """What the server was asked, in order."""

    @property
    def config(self) -> str:
        return str(self.folder / "config.json")

    def write_config(self, keys: int = 1) -> None:
        """Keys that end in key0, key1 ..."""
        key_list = [
            {"api_key": f"sk-desk-1234567890-key{index}", "base_url": self.base_url}
            for index in range(keys)
        ]
        path = Path(self.config)
        path.write_text(json.dumps({"key_index": 0, "key_list": key_list}))
        path.chmod(0o600)

    def asked(self) -> list[str]:
        """The last user message of every request since this was asked last, sorted."""
        asked = sorted(str(entry.user) for entry in self.entries)
        self.entries.clear()
        return asked

    def start(self, program: str, **options: Any) -> subprocess.Popen[str]:
        """Starts a program that is saved as main.py."""
        (self.folder / "main.py").write_text(program)
        return self.start_python("main.py", **options)

    def start_python(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, program: str) -> str:
        """What a program says on stdout. It must end well, and say nothing else."""
        process = self.start(program)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), out + err
        return out


@contextmanager
def desk_at(
    folder: Path,
    scenario: Mapping[str, Any] | None = None,
    *,
    reply: ReplyText | None = None,
    keys: int = 1,
) -> Iterator[Desk]:
    """A desk in `folder`, while its server runs."""
    entries: list[LogEntry] = []
    made = Scenario.model_validate(dict(scenario or {}))
    with MockServer(made, reply=reply, on_request=entries.append) as server:
        desk = Desk(folder, server.base_url, entries)
        desk.write_config(keys)
        yield desk


def eventually(holds: Callable[[], Any], within_s: float = 20.0) -> Any:
    """What `holds` gives, as soon as it is true."""
    deadline = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended, but is not yet waited for, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX" and os.getpid() != pid
