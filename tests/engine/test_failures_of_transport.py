"""Servers that cannot be reached, against a whole engine: what becomes of call and key.

What breaks after the connection stands is in test_failures_of_providers.py.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trustme

from gptflow.engine.attempt import FaultKind
from gptflow.engine.clock import Clock
from gptflow.engine.config import Config, KeyEntry
from gptflow.engine.engine import Engine
from gptflow.engine.events import CallRetried, Event, KeyRetired
from gptflow.engine.secret import Secret
from gptflow.errors import CallFailed, RunStopped
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from gptflow.records import Call, Failure, FailureKind, Reply

Serve = Callable[..., str]

_numbers = itertools.count()


def question() -> Call:
    messages = [{"role": "user", "content": f"Hello {next(_numbers)}"}]
    return Call(b"k" * 16, "label", "m-1", messages, {})


async def at_once(_delay_s: float) -> None:
    await asyncio.sleep(0)


def engine(
    *base_urls: str, events: list[Event] | None = None, attempts: int = 8, timeout_s: float = 5.0
) -> Engine:
    """An engine with a key for each URL, called a, b ..., whose waits pass at once."""
    urls = zip("abc", base_urls, strict=False)
    entries = tuple(KeyEntry(name, Secret(f"sk-canary-{name}"), url) for name, url in urls)
    return Engine(
        Config(entries, origin="config.json"),
        attempts=attempts,
        timeout_s=timeout_s,
        clock=Clock(sleep=at_once, random=lambda: 0.5),
        on_event=None if events is None else events.append,
    )


def reply_of(engine: Engine) -> Reply:
    async def ask() -> Reply:
        async with engine:
            return await engine.ask(question())

    return asyncio.run(ask())


def failure_of(engine: Engine) -> Failure:
    with pytest.raises(CallFailed) as caught:
        reply_of(engine)
    return caught.value.failure


@pytest.fixture(scope="module")
def good() -> Iterator[str]:
    """The base URL of a server without faults."""
    with MockServer() as server:
        yield server.base_url


@pytest.fixture
def refusing() -> Iterator[str]:
    """The base URL of a port on which nobody listens, and nobody else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


@pytest.fixture
def unreachable(request: pytest.FixtureRequest, refusing: str, serve: Serve) -> str:
    """A base URL at which no connection comes about, in the way that the test names."""
    match request.param:
        case "refused":
            return refusing
        case "unknown host":
            return f"http://{'x' * 64}.invalid/v1"  # too long for a name: no resolver is asked
        case _:
            return serve(b"HANG:").replace("http:", "https:")  # its handshake stalls


@pytest.mark.parametrize(
    ("unreachable", "fault", "kind"),
    [
        ("refused", FaultKind.CONNECT, FailureKind.TRANSPORT),
        ("unknown host", FaultKind.CONNECT, FailureKind.TRANSPORT),
        ("stalls", FaultKind.TIMEOUT, FailureKind.TIMEOUT),  # the deadline comes first here
    ],
    indirect=["unreachable"],
)
def test_a_server_that_cannot_be_reached_costs_an_attempt(
    unreachable: str, good: str, fault: FaultKind, kind: FailureKind
) -> None:
    events: list[Event] = []
    reply = reply_of(engine(unreachable, good, events=events, timeout_s=1.0))

    assert (reply.key_name, reply.attempts) == ("b", 2)
    [retried] = [event for event in events if isinstance(event, CallRetried)]
    assert (retried.key_name, retried.fault) == ("a", fault)

    failure = failure_of(engine(unreachable, attempts=1, timeout_s=0.3))
    assert (failure.kind, failure.attempts) == (kind, 1)
    assert unreachable not in failure.message


def test_an_https_url_of_a_server_without_tls_retires_the_key(good: str) -> None:
    events: list[Event] = []
    reply = reply_of(engine(good.replace("http:", "https:"), good, events=events, attempts=1))

    assert (reply.key_name, reply.attempts) == ("b", 2)
    assert [event.key_name for event in events if isinstance(event, KeyRetired)] == ["a"]


@pytest.fixture
def untrusted() -> Iterator[str]:
    """The base URL of a server whose certificate nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_shake_hands, args=(listener, context), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.shutdown(socket.SHUT_RDWR)


def _shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the test is over
            return
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:  # the client has not liked the certificate
            connection.close()


def test_a_certificate_that_cannot_be_trusted_retires_the_key(untrusted: str, good: str) -> None:
    events: list[Event] = []
    reply = reply_of(engine(untrusted, good, events=events, attempts=1))

    assert (reply.key_name, reply.attempts) == ("b", 2)
    assert [event.key_name for event in events if isinstance(event, KeyRetired)] == ["a"]


def test_without_a_server_to_trust_the_run_stops(untrusted: str) -> None:
    with pytest.raises(RunStopped, match="cannot trust the server") as caught:
        reply_of(engine(untrusted))

    assert "base_url" in (caught.value.hint or "")


def test_a_call_outlives_an_outage() -> None:
    scenario = Scenario.model_validate({"outages": [{"at": "0.2s", "lasts": "0.5s"}]})
    retried: list[FaultKind | None] = []
    with MockServer(scenario) as server:
        key = KeyEntry("a", Secret("sk-canary"), server.base_url)

        def hear(event: Event) -> None:
            if isinstance(event, CallRetried):
                retried.append(event.fault)

        async def ask_until_one_was_retried() -> Reply:
            deadline_s = time.monotonic() + 10
            async with Engine(Config((key,), origin="config.json"), on_event=hear) as engine:
                while True:
                    reply = await engine.ask(question())
                    if retried or time.monotonic() > deadline_s:
                        return reply

        reply = asyncio.run(ask_until_one_was_retried())
    assert reply.text.startswith("Hello")
    assert reply.attempts > 1
    assert set(retried) <= {FaultKind.CONNECT, FaultKind.BROKEN}
