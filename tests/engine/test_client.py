"""Both transports, against a server that sends exact bytes."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from gptflow.engine import faults
from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.client import Client
from gptflow.engine.config import KeyEntry
from gptflow.engine.forked_client import ForkedClient
from gptflow.engine.secret import Secret

CANARY = "sk-canary-0123456789abcdefwxyz"
ENDPOINT = "chat/completions"
Serve = Callable[..., str]
Respond = Callable[..., bytes]
Wire = type[Client | ForkedClient]
Outcome = Response | TransportFault


def entry(base_url: str, **more: Any) -> KeyEntry:
    return KeyEntry("main", Secret(CANARY), base_url, **more)


def sent(wire: Wire, key: KeyEntry | str, timeout_s: float = 5.0) -> Outcome:
    async def send() -> Outcome:
        async with aclosing(wire(timeout_s=timeout_s, connections=4)) as client:
            target = entry(key) if isinstance(key, str) else key
            return await client.send(target, ENDPOINT, b'{"model":"m"}')

    return asyncio.run(send())


def answered(wire: Wire, key: KeyEntry | str) -> Response:
    outcome = sent(wire, key)
    assert isinstance(outcome, Response)
    return outcome


def fault(wire: Wire, key: KeyEntry | str, timeout_s: float = 5.0) -> TransportFault:
    outcome = sent(wire, key, timeout_s)
    assert isinstance(outcome, TransportFault)
    assert CANARY not in repr(outcome)
    return outcome


def header_lines(request: bytes) -> dict[bytes, bytes]:
    """The headers of a request by lower-case name; a name that comes twice fails."""
    pairs = [line.split(b": ", 1) for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs)
    return headers


OURS = {
    b"accept": b"application/json",
    b"authorization": f"Bearer {CANARY}".encode(),
    b"content-type": b"application/json",
}
BY_LIBRARY = {b"host", b"accept-encoding", b"connection", b"user-agent", b"content-length"}


def test_a_request_has_the_key_and_nothing_needless(
    wire: Wire, serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    sent(wire, serve(respond()))

    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    headers = header_lines(requests[0])
    assert headers[b"user-agent"].startswith(b"gptflow/")
    assert {name: headers[name] for name in headers.keys() - BY_LIBRARY} == OURS
    assert body == b'{"model":"m"}'


def test_the_variables_of_the_openai_package_change_nothing(
    wire: Wire,
    serve: Serve,
    respond: Respond,
    requests: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-other\nX-More: 1")
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "https://other.example")
    sent(wire, serve(respond()))

    headers = header_lines(requests[0])
    assert {name: headers[name] for name in headers.keys() - BY_LIBRARY} == OURS


def test_an_entry_adds_its_headers_or_puts_them_in_the_place_of_ours(
    wire: Wire, serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    more = (("api-key", Secret("azure")), ("user-agent", Secret("mine/1")))
    sent(wire, entry(serve(respond()), headers=more, organization="org-1"))

    headers = header_lines(requests[0])
    assert headers[b"api-key"] == b"azure"
    assert headers[b"user-agent"] == b"mine/1"
    assert headers[b"openai-organization"] == b"org-1"
    assert headers[b"authorization"] == f"Bearer {CANARY}".encode()


def test_a_path_below_the_base_url_can_be_got(
    wire: Wire, serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    key = entry(serve(respond(200, b'{"data":[]}')))

    async def get() -> Outcome:
        async with aclosing(wire(timeout_s=5.0, connections=4)) as client:
            return await client.get(key, "models")

    outcome = asyncio.run(get())

    assert isinstance(outcome, Response)
    assert (outcome.status, outcome.body) == (200, b'{"data":[]}')
    assert requests[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    headers = header_lines(requests[0])
    assert headers[b"authorization"] == f"Bearer {CANARY}".encode()
    assert b"content-type" not in headers


def test_a_key_that_was_edited_is_sent_as_it_is_now(
    wire: Wire, serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    base_url = serve(respond())

    async def send_both() -> None:
        async with aclosing(wire(timeout_s=5.0, connections=4)) as client:
            for text in ("sk-old-key-0123456789", "sk-new-key-0123456789"):
                key = KeyEntry("main", Secret(text), base_url)
                await client.send(key, ENDPOINT, b"{}")
                await client.send(key, ENDPOINT, b"{}")

    asyncio.run(send_both())

    keys = [header_lines(request)[b"authorization"][-21:] for request in requests]
    assert keys == [b"sk-old-key-0123456789"] * 2 + [b"sk-new-key-0123456789"] * 2


def test_a_response_comes_with_status_headers_and_body(
    wire: Wire, serve: Serve, respond: Respond
) -> None:
    outcome = answered(wire, serve(respond(429, b"{}", Retry_After="3")))

    assert (outcome.status, outcome.body) == (429, b"{}")
    assert outcome.headers.get("retry-after") == "3"


def test_a_packed_response_is_unpacked(wire: Wire, serve: Serve, respond: Respond) -> None:
    packed = respond(200, gzip.compress(b"{}"), content_encoding="gzip")

    assert answered(wire, serve(packed)).body == b"{}"


def test_a_redirect_is_not_followed(
    wire: Wire, serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    outcome = answered(wire, serve(respond(302, b"", location="/elsewhere")))

    assert (outcome.status, len(requests)) == (302, 1)


def test_a_cookie_is_not_sent_back(
    wire: Wire, serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    key = entry(serve(respond(200, b"{}", set_cookie="visitor=1; Path=/")))

    async def send_twice() -> None:
        async with aclosing(wire(timeout_s=5.0, connections=4)) as client:
            for _ in range(2):
                await client.send(key, ENDPOINT, b"{}")

    asyncio.run(send_twice())

    assert len(requests) == 2
    assert b"cookie" not in requests[1].lower()


def test_a_reply_of_a_million_characters_comes_whole(
    wire: Wire, serve: Serve, respond: Respond
) -> None:
    large = b'"' + b"x" * 1_000_000 + b'"'

    assert answered(wire, serve(respond(200, large))).body == large


def test_a_response_that_unpacks_to_more_than_any_reply_is_not_read(
    wire: Wire, serve: Serve, respond: Respond
) -> None:
    bomb = gzip.compress(b"\0" * (faults.LARGEST_BODY + 1), compresslevel=1)
    told = fault(wire, serve(respond(200, bomb, content_encoding="gzip")), timeout_s=30)

    assert told.kind is FaultKind.OVERSIZE


BROKEN_ANSWERS = [
    b"RESET:",
    b"CUT:",
    b"RESET:HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
    b"CUT:HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
    b"CUT:HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nab",
    b"CUT:HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno size\r\nab\r\n",
    b"CUT:\x00\x01 nonsense\r\n\r\n",
    b"CUT:HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
]


@pytest.mark.parametrize("answer", BROKEN_ANSWERS, ids=range(len(BROKEN_ANSWERS)))
def test_a_broken_connection_is_a_value(wire: Wire, serve: Serve, answer: bytes) -> None:
    told = fault(wire, serve(answer))

    assert told.kind is FaultKind.BROKEN
    assert re.match(r"the connection to 127\.0\.0\.1:\d+ broke: \w+", told.message)
    assert "/v1" not in told.message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HANG:", "in 0.3 s"),
        (b"DRIP:", "in 0.3 s, though one began"),
    ],
)
def test_what_outlasts_the_deadline_is_told_apart(
    wire: Wire, serve: Serve, answer: bytes, message: str
) -> None:
    began = time.monotonic()
    base_url = serve(answer)
    told = fault(wire, base_url, timeout_s=0.3)

    host = base_url.removeprefix("http://").removesuffix("/v1")
    assert told.kind is FaultKind.TIMEOUT
    assert told.message == f"no whole reply from {host} {message}"
    assert time.monotonic() - began < 20


def test_the_deadline_of_an_entry_comes_before_that_of_the_client(wire: Wire, serve: Serve) -> None:
    told = fault(wire, entry(serve(b"HANG:"), timeout_s=0.25), timeout_s=300)

    assert told.message.endswith(" in 0.25 s")


def test_a_body_without_length_ends_with_the_connection(wire: Wire, serve: Serve) -> None:
    assert answered(wire, serve(b"CUT:HTTP/1.1 200 OK\r\n\r\n{")).body == b"{"


def test_a_closed_port_is_told_with_the_host_and_without_the_url(wire: Wire) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = fault(wire, f"http://127.0.0.1:{port}/private/v1")

    assert told.kind is FaultKind.CONNECT
    assert told.message.startswith(f"cannot connect to 127.0.0.1:{port}: ")
    assert "refused" in told.message
    assert "private" not in told.message


def test_a_host_that_does_not_exist_is_told_apart(wire: Wire) -> None:
    told = fault(wire, "http://no-such-host.invalid/v1", timeout_s=20)

    assert told.kind is FaultKind.CONNECT
    assert told.message.startswith("cannot connect to no-such-host.invalid: ")


class _Peer:
    """A server in the test's own loop, which sees connections begin and end."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked = asyncio.Event()
        self.handlers: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.handlers.append(task)
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n{}")
            self.asked.set()
            writer.write(self.answer)
        writer.close()
        await writer.wait_closed()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[KeyEntry]:
        """Gives a key to itself; goes on when all connections have ended."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            yield entry(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
            await asyncio.wait_for(asyncio.gather(*self.handlers), 20)


def test_a_cancelled_request_comes_back_at_once_and_its_connection_ends(wire: Wire) -> None:
    async def cancel() -> None:
        peer = _Peer(b"")
        async with (
            aclosing(wire(timeout_s=60, connections=1)) as client,
            peer.listen() as key,
        ):
            slow = dataclasses.replace(key, timeout_s=1.0)
            task = asyncio.create_task(client.send(slow, ENDPOINT, b"{}"))
            await peer.asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not peer.handlers[0].done() or wire is ForkedClient

    asyncio.run(cancel())


def test_nothing_is_sent_by_a_client_that_is_closed(
    wire: Wire, serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    key = entry(serve(respond()))

    async def send() -> Outcome:
        client = wire(timeout_s=5, connections=1)
        await client.aclose()
        return await client.send(key, ENDPOINT, b"{}")

    outcome = asyncio.run(send())
    assert isinstance(outcome, TransportFault)
    assert requests == []


def test_requests_take_turns_on_no_more_connections_than_are_in_flight(wire: Wire) -> None:
    peer = _Peer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async def send_many() -> None:
        async with peer.listen() as key, aclosing(wire(timeout_s=30, connections=4)) as client:

            async def worker() -> None:
                for _ in range(10):
                    assert isinstance(await client.send(key, ENDPOINT, b"{}"), Response)

            await asyncio.gather(*(worker() for _ in range(4)))

    asyncio.run(send_many())
    assert len(peer.handlers) <= 4
