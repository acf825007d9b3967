"""Runs over a network that fails: each ends, with a reason, and nothing outlasts its deadline."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from tests.project import Project

ROWS = 3
SPEC = """
name: reviews
source: {path: reviews.jsonl}
model: {name: m-1, temperature: 0}
steps: [{name: label, prompt: "Row {{ number }}.", extract: {label: text}}]
limits: {timeout_s: 5, attempts: 2}
output: {path: out/labels.jsonl}
"""
BODY = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"good"},'
    b'"finish_reason":"stop"}]}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
Talk = Callable[[socket.socket], None]


def read_request(connection: socket.socket) -> None:
    """Reads until the body of a request has come, which ends the JSON object."""
    got = b""
    while not got.endswith(b"}"):
        part = connection.recv(65_536)
        if not part:
            raise ConnectionError
        got += part


def answer_once(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(ANSWER)


def hang(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def drip_headers(connection: socket.socket) -> None:
    read_request(connection)
    for byte in ANSWER:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def drip_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(ANSWER[: -len(BODY)])
    for byte in BODY:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def break_in_the_middle(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(ANSWER[:-20])


@contextmanager
def listening(talk: Talk | None, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port at which each connection is treated by `talk`; by None: it is never accepted."""

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            assert talk is not None  # nothing is accepted without it
            with connection:
                talk(connection)

    def accept() -> None:
        with suppress(OSError):  # the test is over
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        if talk is not None:
            threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def project_at(folder: Path, base_url: str, timeout_s: float = 5) -> Project:
    project = Project(folder, base_url)
    project.write("spec.yaml", SPEC.replace("timeout_s: 5", f"timeout_s: {timeout_s}"))
    project.write_rows([{"number": number} for number in range(ROWS)])
    project.write_config("sk-0123456789-0001")
    return project


@pytest.mark.parametrize(
    ("talk", "timeout_s", "kind", "reason"),
    [
        (None, 0.5, "timeout", "no whole reply"),
        (drip_headers, 0.5, "timeout", "no whole reply"),
        (drip_body, 1.5, "timeout", "though one began"),
        (break_in_the_middle, 5, "transport", "broke"),
    ],
    ids=["a hung accept", "slow headers", "a slow body", "a broken body"],
)
def test_each_row_fails_in_time_and_with_a_reason_by(
    tmp_path: Path, talk: Talk | None, timeout_s: float, kind: str, reason: str
) -> None:
    with listening(talk) as port:
        project = project_at(tmp_path, f"http://127.0.0.1:{port}/v1", timeout_s)
        began_s = time.monotonic()
        said = project.gptflow("run", "spec.yaml", code=1)

        assert time.monotonic() - began_s < 30
    assert f"failed {ROWS}" in said
    failed = project.output("out/labels.failed.jsonl")
    assert [line["error"]["kind"] for line in failed] == [kind] * ROWS
    assert all(reason in line["error"]["message"] for line in failed)
    assert {line["error"]["attempts"] for line in failed} == {2}


def test_a_server_that_closes_each_connection_after_one_response_serves_all_rows(
    tmp_path: Path,
) -> None:
    with listening(answer_once) as port:
        project = project_at(tmp_path, f"http://127.0.0.1:{port}/v1")
        project.write_rows([{"number": number} for number in range(50)])

        assert "done 50, failed 0" in project.gptflow("run", "spec.yaml")


def test_a_name_that_cannot_be_resolved_stops_the_run(tmp_path: Path) -> None:
    host = f"{'x' * 64}.invalid"  # too long for a name: no resolver is asked
    project = project_at(tmp_path, f"http://{host}/v1")
    project.write_rows([{"number": number} for number in range(20)])
    said = project.gptflow("run", "spec.yaml", code=3)

    assert f"cannot connect to {host}" in said
    assert "20" in said
    assert not (tmp_path / "out/labels.jsonl").exists()


PAST = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "dates", "is_trusted", "reason"),
    [
        ("other.example.com", None, True, "other"),
        ("127.0.0.1", PAST, True, "expired"),
        ("127.0.0.1", None, False, "cannot trust"),
    ],
    ids=["another host", "an expired one", "one that nobody vouches for"],
)
def test_a_run_without_another_key_stops_at_a_certificate_of(
    tmp_path: Path,
    name: str,
    dates: tuple[datetime, datetime] | None,
    is_trusted: bool,
    reason: str,
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    begins, ends = dates or (None, None)
    authority.issue_cert(name, not_before=begins, not_after=ends).configure_cert(context)
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(str(roots))
    with listening(hang, context) as port:
        project = project_at(tmp_path, f"https://127.0.0.1:{port}/v1")
        project.write("spec.yaml", SPEC.replace("attempts: 2", "attempts: 2, key_wait_s: 0"))
        trust = {"SSL_CERT_FILE": str(roots)} if is_trusted else {}
        said = project.gptflow("run", "spec.yaml", code=3, env=trust)

    assert f"cannot trust the server 127.0.0.1:{port}" in said
    assert reason in said
    assert json.loads((tmp_path / "config.json").read_text())  # untouched
