"""The simulated server as a bare ASGI application."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec

from gptflow.mock.answer import Answer, Incoming
from gptflow.mock.batch.api import BatchApi
from gptflow.mock.batch.form import Form
from gptflow.mock.failure.model import JSON, Header
from gptflow.mock.log import Arrival, LogEntry, entry_of
from gptflow.mock.simulator import Simulator
from gptflow.mock.wire import TRANSPORT, Line, Receive, left_within

_PIECE_BYTES = 1_000_000
"""A larger body, such as that of a batch's output, is sent piece by piece."""
Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Stats(msgspec.Struct):
    """What a server has seen so far."""

    requests: int = 0
    answered: int = 0
    """Whole answers handed to the connection, failures of HTTP included."""
    in_flight: int = 0
    peak_in_flight: int = 0
    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    """Answers by status, those included that broke off."""
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    """By name in the catalogue."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    batches: Counter[str] = msgspec.field(default_factory=Counter)
    """What was done about files and batches: uploads, batches, polls, downloads, cancels,
    deletions, lists, looks (at files). Then lines: those of batches that were answered, failures
    included; and prompt_tokens and completion_tokens, which batches that have ended bill."""


class MockApp:
    """Answers requests as the simulator decides, waiting as long as it says."""

    def __init__(
        self,
        simulator: Simulator,
        listeners: list[Callable[[LogEntry], None]],
        on_first: Callable[[], None],
    ) -> None:
        """Build it. `on_first` is called when the first request has come."""
        self.stats = Stats()
        self._simulator = simulator
        self._on_first = on_first
        self._listeners = listeners
        self._run_id = f"{time.time_ns():x}"
        self._batches = BatchApi(simulator, self._run_id)
        self.stats.batches = self._batches.counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began_s = time.monotonic()
        form = _form(scope)
        content = await _received(receive, form)
        if content is None:
            return
        incoming = _incoming(scope, content)
        arrival = self._arrive()
        try:
            if self._batches.is_for(incoming.path):
                moment = self._simulator.moment(began_s, arrival.unix_s, arrival.in_flight)
                answer = self._batches.answer(incoming, form, moment)
            else:
                answer = self._simulator.answer(
                    incoming, began_s, arrival.unix_s, arrival.in_flight
                )
            answered = await self._deliver(answer, arrival.number, scope, receive, send)
        finally:
            self.stats.in_flight -= 1
        latency_s = time.monotonic() - began_s
        entry = entry_of(incoming, answer, arrival, latency_s, answered=answered)
        self._note(entry, answer.status)

    def _arrive(self) -> Arrival:
        stats = self.stats
        if not stats.requests:
            self._on_first()
        arrival = Arrival(stats.requests + 1, time.time(), stats.in_flight)
        stats.requests += 1
        stats.in_flight += 1
        stats.peak_in_flight = max(stats.peak_in_flight, stats.in_flight)
        return arrival

    async def _deliver(
        self, answer: Answer, number: int, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Wait, then send. True: the whole answer was handed to the connection."""
        if answer.latency_s and await left_within(receive, answer.latency_s):
            return False
        transport = scope["extensions"][TRANSPORT]
        if transport.is_closing():
            await receive()  # else uvicorn finds the connection alive, and complains
            return False
        headers = [*answer.headers, *self._api_headers(answer, number)]
        if answer.cut is not None:
            line = Line(transport, receive)
            return await line.send(answer.status, headers, answer.body, answer.cut)
        if answer.status != HTTPStatus.NO_CONTENT:
            headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        return await self._send_body(answer.body, transport, receive, send)

    async def _send_body(
        self, body: bytes | bytearray, transport: Any, receive: Receive, send: Send
    ) -> bool:
        """Send it, a large one in pieces: others go between. False: the client left meanwhile."""
        begin = 0
        while len(body) - begin > _PIECE_BYTES:
            piece = bytes(memoryview(body)[begin : begin + _PIECE_BYTES])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            begin += _PIECE_BYTES
        if begin and transport.is_closing():
            await receive()
            return False
        rest = bytes(memoryview(body)[begin:]) if begin else bytes(body)
        await send({"type": "http.response.body", "body": rest})
        return True

    def _api_headers(self, answer: Answer, number: int) -> list[Header]:
        """What OpenAI adds to all that it says itself. Proxies and their pages have none."""
        if (b"content-type", JSON) not in answer.headers:
            return []
        return [
            (b"x-request-id", f"req_{self._run_id}{number:08x}".encode()),
            (b"openai-processing-ms", b"%d" % (answer.latency_s * 1000)),
            (b"openai-version", b"2020-10-01"),
        ]

    def _note(self, entry: LogEntry, status: int) -> None:
        stats = self.stats
        stats.answered += entry.answered
        stats.statuses[status] += 1
        if entry.failure is not None:
            stats.failures[entry.failure] += 1
        if entry.answered:
            stats.prompt_tokens += entry.prompt_tokens
            stats.completion_tokens += entry.completion_tokens
        for listen in self._listeners:
            listen(entry)


def _incoming(scope: Scope, content: bytes) -> Incoming:
    key = _header(scope, b"authorization")
    scheme, _, token = key.partition(" ")
    return Incoming(
        scope["method"],
        scope["path"],
        token.strip() if scheme.lower() == "bearer" else "",
        content,
        scope["query_string"].decode("latin-1"),
    )


def _form(scope: Scope) -> Form | None:
    """What takes the body of an upload."""
    content_type = _header(scope, b"content-type")
    return Form(content_type) if content_type.startswith("multipart/") else None


async def _received(receive: Receive, form: Form | None) -> bytes | None:
    """The body of the request, or None if the client left while sending it.

    A form takes it, if there is one; then the body is empty.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if form is not None:
            form.feed(message["body"])
        else:
            parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


def _header(scope: Scope, wanted: bytes) -> str:
    """The value of a header, or an empty text."""
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value, "latin-1")
    return ""
