"""A simulated API with a config.json that leads to it, and a wrapper over both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gptflow import GPTWrapper
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.lark_server import LarkServer

KEY = "sk-canary-0123456789abcdefwxyz"
HI = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"engine": "gpt-4o-mini", "messages": HI}
PRELUDE = """
from gptflow import GPTWrapper
wrapper = GPTWrapper()
HI = [{"role": "user", "content": "hi"}]
def ask(text="hi"):
    messages = [{"role": "user", "content": text}]
    return wrapper.completions_with_backoff(engine="gpt-4o-mini", messages=messages)
"""
"""What a program of `Api.python` begins with."""


@dataclass
class Api:
    """A simulated server, and the folder that a user of it works in."""

    server: MockServer
    folder: Path
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """What the requests that were replied to asked, in order."""

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    def write_config(self, *keys: str) -> None:
        entries = [{"api_key": key, "base_url": self.server.base_url} for key in keys]
        self.config.write_text(json.dumps({"key_index": 0, "key_list": entries}))
        self.config.chmod(0o600)

    def wrapper(self, **options: Any) -> GPTWrapper:
        return GPTWrapper(self.config, **options)

    def start(self, program: str, *options: str) -> subprocess.Popen[str]:
        """Starts a Python program in the folder, after PRELUDE."""
        return subprocess.Popen(
            [sys.executable, *options, "-c", PRELUDE + program],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if "OPENAI" not in name},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def python(self, program: str, *options: str) -> str:
        """What a program printed. It has to end well, and to say nothing on stderr."""
        process = self.start(program, *options)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, ""), out + err
        return out


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread or process brings about."""
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy, nor a key, nor a hook of the machine plays a part."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "LARK_HOOK", "LARK_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Starts a simulated server with a scenario, and writes a config.json with one key of it."""
    with ExitStack() as stack:

        def start(**scenario: Any) -> Api:
            bodies: list[dict[str, Any]] = []

            def echo(body: dict[str, Any]) -> str:
                bodies.append(body)
                if "messages" in body:
                    return str(body["messages"][-1]["content"])
                prompt = body["prompt"]  # a list with one is asked as it is
                return str(prompt[0] if isinstance(prompt, list) else prompt)

            server = MockServer(Scenario.model_validate(scenario), reply=echo)
            api = Api(stack.enter_context(server), tmp_path, bodies)
            api.write_config(KEY)
            return api

        yield start


@pytest.fixture
def api(serve: Callable[..., Api]) -> Api:
    """A server that echoes at once."""
    return serve()


@pytest.fixture
def wrapper(api: Api) -> Iterator[GPTWrapper]:
    with api.wrapper() as made:
        yield made


@pytest.fixture
def lark() -> Iterator[LarkServer]:
    with LarkServer() as server:
        yield server
