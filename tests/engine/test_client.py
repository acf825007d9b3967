"""The transport, against a server that sends exact bytes."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest
from pyreqwest.exceptions import CauseErrorDetails, ConnectError

from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.client import Client, fault_of
from gptflow.engine.config import KeyEntry
from gptflow.engine.secret import Secret

CANARY = "sk-canary-0123456789abcdefwxyz"
Serve = Callable[..., str]
Respond = Callable[..., bytes]


def sent(base_url: str, timeout_s: float = 5.0) -> Response | TransportFault:
    key = KeyEntry("main", Secret(CANARY), base_url, organization="org-1")

    async def send() -> Response | TransportFault:
        async with aclosing(Client(timeout_s=timeout_s, connections=4)) as client:
            return await client.send(key, "chat/completions", b'{"model":"m"}')

    return asyncio.run(send())


def fault(base_url: str, timeout_s: float = 5.0) -> TransportFault:
    outcome = sent(base_url, timeout_s)
    assert isinstance(outcome, TransportFault)
    assert CANARY not in repr(outcome)
    return outcome


def test_a_request_has_the_key_the_organization_and_nothing_needless(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    sent(serve(respond()))

    head, _, body = requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/chat/completions http/1.1"
    assert b"authorization: bearer " + CANARY.encode() in lines
    assert b"openai-organization: org-1" in lines
    assert not {b"cookie", b"referer"} & {line.partition(b":")[0] for line in lines}
    assert body == b'{"model":"m"}'


def test_a_response_comes_with_status_headers_and_body(serve: Serve, respond: Respond) -> None:
    outcome = sent(serve(respond(429, b"{}", Retry_After="3")))

    assert isinstance(outcome, Response)
    assert (outcome.status, outcome.body) == (429, b"{}")
    assert outcome.headers.get("retry-after") == "3"


def test_a_packed_response_is_unpacked(serve: Serve, respond: Respond) -> None:
    outcome = sent(serve(respond(200, gzip.compress(b"{}"), content_encoding="gzip")))

    assert isinstance(outcome, Response)
    assert outcome.body == b"{}"


def test_a_redirect_is_not_followed(serve: Serve, respond: Respond, requests: list[bytes]) -> None:
    outcome = sent(serve(respond(302, b"", location="/elsewhere")))

    assert isinstance(outcome, Response)
    assert (outcome.status, len(requests)) == (302, 1)


def test_a_path_below_the_base_url_can_be_got(
    serve: Serve, respond: Respond, requests: list[bytes]
) -> None:
    key = KeyEntry("main", Secret(CANARY), serve(respond(200, b'{"data":[]}')))

    async def get() -> Response | TransportFault:
        async with aclosing(Client(timeout_s=5.0, connections=4)) as client:
            return await client.get(key, "models")

    outcome = asyncio.run(get())

    assert isinstance(outcome, Response)
    assert (outcome.status, outcome.body) == (200, b'{"data":[]}')
    head = requests[0].lower()
    assert head.startswith(b"get /v1/models http/1.1\r\n")
    assert b"authorization: bearer " + CANARY.encode() in head


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"RESET:", FaultKind.BROKEN),
        (b"CUT:", FaultKind.BROKEN),
        (b"RESET:HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", FaultKind.BROKEN),
        (b"CUT:HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", FaultKind.BROKEN),
        (b"CUT:HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nab", FaultKind.BROKEN),
        (b"CUT:\x00\x01 nonsense\r\n\r\n", FaultKind.BROKEN),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
            FaultKind.BROKEN,
        ),
        (b"HANG:", FaultKind.TIMEOUT),
        (b"DRIP:", FaultKind.TIMEOUT),
    ],
)
def test_a_broken_transport_is_a_value(serve: Serve, answer: bytes, kind: FaultKind) -> None:
    assert fault(serve(answer), timeout_s=0.3).kind is kind


def test_a_slow_drip_ends_at_the_deadline(serve: Serve) -> None:
    began = time.monotonic()
    fault(serve(b"DRIP:"), timeout_s=0.3)

    assert time.monotonic() - began < 20


def test_a_body_without_length_ends_with_the_connection(serve: Serve) -> None:
    outcome = sent(serve(b"CUT:HTTP/1.1 200 OK\r\n\r\n{"))

    assert isinstance(outcome, Response)
    assert outcome.body == b"{"


def test_a_closed_port_is_told_without_the_url() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = fault(f"http://127.0.0.1:{port}/v1")

    assert told.kind is FaultKind.CONNECT
    assert "refused" in told.message
    assert str(port) not in told.message


def test_a_proxy_that_wants_credentials_is_told_apart(
    serve: Serve, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", serve(respond(407, b"")).removesuffix("/v1"))

    assert fault("https://api.example/v1").kind is FaultKind.PROXY


def test_an_untrusted_certificate_is_told_apart() -> None:
    causes = ("client error (Connect)", "invalid peer certificate: UnknownIssuer")
    details: CauseErrorDetails = {"causes": [{"message": cause} for cause in causes]}

    told = fault_of(ConnectError("connection error", details), timeout_s=1.0)

    assert told.kind is FaultKind.CERTIFICATE
    assert "UnknownIssuer" in told.message


def test_cancelling_closes_the_connection(serve: Serve) -> None:
    async def cancel() -> None:
        key = KeyEntry("main", Secret(CANARY), serve(b"HANG:"))
        async with aclosing(Client(timeout_s=30, connections=1)) as client:
            task = asyncio.create_task(client.send(key, "chat/completions", b"{}"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    began = time.monotonic()
    asyncio.run(cancel())
    assert time.monotonic() - began < 20
