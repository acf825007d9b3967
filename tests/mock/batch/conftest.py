from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import pytest
from openai import OpenAI
from openai.types import Batch

from gptflow.mock.batch.record import ENDED
from gptflow.mock.log import LogEntry
from gptflow.mock.reply import ReplyText
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer

CHAT: Final = "/v1/chat/completions"


def asks(user: str, custom_id: str | None = None, **body: Any) -> dict[str, Any]:
    """A line of an input file, whose custom_id is its question if it is not given."""
    messages = [{"role": "user", "content": user}]
    return {
        "custom_id": user if custom_id is None else custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": "gpt-4o-mini", "messages": messages, **body},
    }


def jsonl(lines: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class Desk(NamedTuple):
    """A running server, and a key's way to its files and batches."""

    server: MockServer
    client: OpenAI
    entries: list[LogEntry]

    def of(self, key: str) -> Desk:
        """The same server for another key."""
        return self._replace(client=self.client.with_options(api_key=key))

    def upload(self, lines: Sequence[Any] | bytes, name: str = "batch.jsonl") -> str:
        """The id of a file with these lines."""
        content = lines if isinstance(lines, bytes) else jsonl(lines)
        return self.client.files.create(file=(name, content), purpose="batch").id

    def begin(self, lines: Sequence[Any] | bytes, **more: Any) -> Batch:
        """A batch of these lines, just created."""
        return self.client.batches.create(
            input_file_id=self.upload(lines),
            endpoint=more.pop("endpoint", CHAT),
            completion_window="24h",
            **more,
        )

    def wait(
        self, batch: Batch, states: Sequence[str] = tuple(ENDED), pause_s: float = 0.005
    ) -> Batch:
        """The batch as soon as it has ended, or come into one of these states."""
        deadline_s = time.monotonic() + 20
        while batch.status not in states:
            assert time.monotonic() < deadline_s, batch
            time.sleep(pause_s)
            batch = self.client.batches.retrieve(batch.id)
        return batch

    def run(self, lines: Sequence[Any] | bytes, **more: Any) -> Batch:
        """A batch of these lines that has ended."""
        return self.wait(self.begin(lines, **more))

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a file that a batch has written."""
        assert file_id is not None
        text = self.client.files.content(file_id).text
        return [json.loads(line) for line in text.splitlines()]

    def noted(self) -> list[LogEntry]:
        """The entries, once there is one for each request that came."""
        deadline_s = time.monotonic() + 5
        while len(self.entries) < self.server.requests and time.monotonic() < deadline_s:
            time.sleep(0.002)
        return self.entries


Open = Callable[..., Desk]


@pytest.fixture(scope="module")
def desk() -> Iterator[Open]:
    """Opens servers, each with a scenario of its own, which end with the module."""
    with ExitStack() as stack:

        def start(python_reply: ReplyText | None = None, **scenario: Any) -> Desk:
            entries: list[LogEntry] = []
            rules = {"latency": "20ms", **scenario.pop("batch", {})}
            told = Scenario.model_validate({**scenario, "batch": rules})
            server = MockServer(told, reply=python_reply, on_request=entries.append)
            stack.enter_context(server)
            client = OpenAI(api_key="sk-one", base_url=server.base_url, max_retries=0)
            return Desk(server, stack.enter_context(client), entries)

        yield start
