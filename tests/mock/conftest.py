from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from pyreqwest.client import SyncClient, SyncClientBuilder

from gptflow.mock.log import LogEntry
from gptflow.mock.reply import ReplyText
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> Any:
        return self.json["choices"][0]["message"]["content"]


class Serving(NamedTuple):
    """A running server, a client for it, and what it noted."""

    server: MockServer
    client: SyncClient
    entries: list[LogEntry]

    def ask(self, user: str = "Hello", key: str = "sk-one", **body: Any) -> Got:
        """A chat completion, whole or with an exception of pyreqwest."""
        question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": user}]}
        return self.send("POST", "/chat/completions", {**question, **body}, key)

    def noted(self) -> list[LogEntry]:
        """The entries, once there is one for each request that came."""
        deadline_s = time.monotonic() + 5
        while len(self.entries) < self.server.requests and time.monotonic() < deadline_s:
            time.sleep(0.002)
        return self.entries

    def send(self, method: str, path: str, body: Any = None, key: str = "sk-one") -> Got:
        request = self.client.request(method, self.server.base_url + path)
        if key:
            request = request.header("authorization", f"Bearer {key}")
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            request = request.body_bytes(content)
        response = request.build().send()
        return Got(response.status, dict(response.headers.items()), bytes(response.bytes()))


Serve = Callable[..., Serving]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Starts servers, each with a scenario of its own, which end with the module."""
    with ExitStack() as stack:

        def start(python_reply: ReplyText | None = None, **scenario: Any) -> Serving:
            entries: list[LogEntry] = []
            told = Scenario.model_validate(scenario)
            server = MockServer(told, reply=python_reply, on_request=entries.append)
            builder = SyncClientBuilder().no_proxy().follow_redirects(enable=False)
            client = builder.timeout(timedelta(seconds=10)).build()
            return Serving(stack.enter_context(server), stack.enter_context(client), entries)

        yield start
