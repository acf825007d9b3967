"""What lies between a client and its server: proxies and TLS, real ones on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trustme

from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.client import Client
from gptflow.engine.config import KeyEntry
from gptflow.engine.forked_client import ForkedClient
from gptflow.engine.secret import Secret

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LOGIN = "me:pass-word-of-the-proxy"
Serve = Callable[..., str]
Respond = Callable[..., bytes]
Wire = type[Client | ForkedClient]
Outcome = Response | TransportFault
Listen = Callable[[Callable[[socket.socket], None]], int]


@pytest.fixture(autouse=True)
def _no_certificates_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Starts a server that hands each connection to a function; gives its port."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(handle: Callable[[socket.socket], None]) -> int:
        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    handle(self.request)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sent(wire: Wire, base_url: str, timeout_s: float = 10.0) -> Outcome:
    key = KeyEntry("main", Secret("sk-canary-0123456789"), base_url)

    async def send() -> Outcome:
        async with aclosing(wire(timeout_s=timeout_s, connections=4)) as client:
            return await client.send(key, "chat/completions", b"{}")

    return asyncio.run(send())


def fault(wire: Wire, base_url: str) -> TransportFault:
    outcome = sent(wire, base_url)
    assert isinstance(outcome, TransportFault)
    assert "pass-word" not in repr(outcome)
    return outcome


def head_of(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1) or b"\r\n\r\n"
    return head


def tunnel(heads: list[bytes]) -> Callable[[socket.socket], None]:
    """A proxy that tunnels to any port of loopback, whichever host it is asked for."""

    def handle(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        port = int(heads[-1].split()[1].rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port)) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(far, connection), daemon=True)
            back.start()
            pump(connection, far)
            back.join(10)

    return handle


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


class Authority:
    """A certificate authority of its own, with servers that it vouches for."""

    def __init__(self, listen: Listen, folder: Path) -> None:
        self._listen = listen
        self._authority = trustme.CA()
        self.file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def serve(self, *names: str, not_after: dt.datetime | None = None) -> int:
        """The port of a server whose certificate is for `names`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        before = not_after and not_after - dt.timedelta(days=1)
        certificate = self._authority.issue_cert(*names, not_after=not_after, not_before=before)
        certificate.configure_cert(context)

        def handle(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as tls:
                head_of(tls)
                tls.recv(2)
                tls.sendall(REPLY)
                tls.recv(1)

        return self._listen(handle)


@pytest.fixture
def authority(listen: Listen, tmp_path: Path) -> Authority:
    return Authority(listen, tmp_path)


def test_a_server_of_a_private_authority_is_trusted_by_ssl_cert_file(
    wire: Wire, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    outcome = sent(wire, f"https://127.0.0.1:{authority.serve('127.0.0.1')}/v1")

    assert isinstance(outcome, Response)
    assert (outcome.status, outcome.body) == (200, b"{}")


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        (None, "name the file with its issuer in SSL_CERT_FILE"),
        ("REQUESTS_CA_BUNDLE", "REQUESTS_CA_BUNDLE is set, but only SSL_CERT_FILE is read"),
    ],
)
def test_an_unknown_authority_is_told_with_the_variable_that_helps(
    wire: Wire,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    advice: str,
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(authority.file))
    told = fault(wire, f"https://127.0.0.1:{authority.serve('127.0.0.1')}/v1")

    assert told.kind is FaultKind.CERTIFICATE
    assert re.match(r"cannot trust the server 127\.0\.0\.1:\d+: \w", told.message)
    assert told.message.endswith(advice)


@pytest.mark.parametrize(
    ("name", "days", "reason"),
    [("other.example", 1, "(?i)not valid for"), ("127.0.0.1", -1, "expired")],
)
def test_a_certificate_for_another_name_or_time_is_told_apart(
    wire: Wire,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    days: int,
    reason: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    told = fault(wire, f"https://127.0.0.1:{authority.serve(name, not_after=until)}/v1")

    assert told.kind is FaultKind.CERTIFICATE
    assert re.search(reason, told.message)
    assert "SSL_CERT_FILE" not in told.message


def test_a_server_that_shows_the_certificate_of_a_ca_is_told_in_plain_words(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate, key = trustme.CA(), tmp_path / "ca.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(str(certificate))
    authority.private_key_pem.write_to_path(str(key))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)

    told = fault(Client, f"https://127.0.0.1:{listen(handle)}/v1")

    assert told.kind is FaultKind.CERTIFICATE
    assert told.message.endswith("that of a CA: make one with basicConstraints=CA:FALSE")
    assert "company" not in (told.hint or "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "holds no certificates in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificates"),
    ],
)
def test_a_file_of_certificates_that_is_missing_or_bad_is_named(
    wire: Wire,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    reason: str,
) -> None:
    file = tmp_path / "mine.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    told = fault(wire, "https://127.0.0.1:1/v1")

    assert told.kind is FaultKind.CERTIFICATE
    assert told.message.startswith(f"SSL_CERT_FILE={file}: {reason}")
    assert told.hint == "correct SSL_CERT_FILE, or unset it"


def test_a_missing_folder_of_certificates_is_named(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", "/no/such/folder")

    assert fault(wire, "https://127.0.0.1:1/v1").message == (
        "SSL_CERT_DIR=/no/such/folder: there is no such folder"
    )


def test_without_tls_no_certificates_are_read(
    wire: Wire, serve: Serve, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")

    assert isinstance(sent(wire, serve(respond())), Response)


def test_a_server_without_tls_at_an_https_url_is_told_apart(wire: Wire, listen: Listen) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        connection.recv(1000)

    told = fault(wire, f"https://127.0.0.1:{listen(handle)}/v1")

    assert told.kind is FaultKind.CERTIFICATE
    assert "does not speak TLS" in told.message
    assert "http://" in told.message
    assert told.hint == "check base_url"


def test_a_server_with_tls_at_an_http_url_gets_advice(wire: Wire, listen: Listen) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")  # TLS: alert, fatal, protocol_version

    told = fault(wire, f"http://127.0.0.1:{listen(handle)}/v1")

    assert told.kind is FaultKind.BROKEN
    assert "https://" in told.message


def test_an_https_request_goes_through_a_tunnel_of_the_proxy(
    wire: Wire, authority: Authority, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{LOGIN}@127.0.0.1:{listen(tunnel(heads))}")
    port = authority.serve("api.example.com")
    outcome = sent(wire, f"https://api.example.com:{port}/v1")

    assert isinstance(outcome, Response)
    assert heads[0].startswith(f"CONNECT api.example.com:{port} HTTP/1.1\r\n".encode())
    assert base64.b64encode(LOGIN.encode()) in heads[0]
    assert b"sk-canary" not in heads[0]


def test_a_plain_request_is_handed_to_the_proxy(
    wire: Wire,
    serve: Serve,
    respond: Respond,
    requests: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = serve(respond()).removesuffix("/v1").replace("http://", f"http://{LOGIN}@")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    outcome = sent(wire, "http://api.example.com/v1")

    assert isinstance(outcome, Response)
    assert requests[0].startswith(b"POST http://api.example.com/v1/chat/completions HTTP/1.1\r\n")
    assert base64.b64encode(LOGIN.encode()) in requests[0]


def test_a_server_on_this_machine_is_asked_past_the_proxy(
    wire: Wire, serve: Serve, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert isinstance(sent(wire, serve(respond())), Response)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named_without_its_password(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://{LOGIN}@127.0.0.1:1")
    told = fault(wire, f"{scheme}://api.example.com/v1")

    assert told.kind is FaultKind.CONNECT
    assert told.message.startswith(
        "cannot connect to api.example.com through the proxy 127.0.0.1:1 (ALL_PROXY): "
    )
    assert "refused" in told.message


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("login", ["", f"{LOGIN}@"])
def test_a_proxy_that_lets_nobody_through_is_told_apart(
    wire: Wire, serve: Serve, monkeypatch: pytest.MonkeyPatch, scheme: str, login: str
) -> None:
    denial = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    place = serve(denial).removesuffix("/v1").removeprefix("http://")
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://{login}{place}")
    told = fault(wire, f"{scheme}://api.example.com/v1")

    wants = "does not take its user and password" if login else "wants a user and a password"
    assert told.kind is FaultKind.PROXY
    assert told.message == f"the proxy {place} ({scheme.upper()}_PROXY) {wants}"
    assert f"{scheme.upper()}_PROXY" in (told.hint or "")


def test_a_proxy_that_cannot_reach_the_server_is_no_connection(
    wire: Wire, serve: Serve, respond: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", serve(respond(502, b"")).removesuffix("/v1"))
    told = fault(wire, "https://api.example.com/v1")

    assert told.kind is FaultKind.CONNECT
    assert "through the proxy 127.0.0.1" in told.message


def test_a_variable_that_names_no_proxy_is_told_and_nothing_is_sent(
    wire: Wire,
    serve: Serve,
    respond: Respond,
    requests: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"htp://{LOGIN}@proxy.example")
    told = fault(wire, serve(respond()).replace("127.0.0.1", "api.example.com"))

    assert told.kind is FaultKind.PROXY
    assert told.message == "HTTP_PROXY holds no URL of a proxy"
    assert "HTTP_PROXY=http://" in (told.hint or "")
    assert requests == []


@pytest.mark.parametrize(
    "proxy",
    [
        "socks4://127.0.0.1:1",
        "socks4a://127.0.0.1:1",
        "socks5://127.0.0.1:1",
        "http://exa mple:3128",
        "http://xn--a:3128",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_fault(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    told = fault(wire, "http://api.example.com/v1")

    assert told.kind in (FaultKind.PROXY, FaultKind.CONNECT)
    assert "HTTP_PROXY" in told.message


def test_a_handshake_that_stalls_is_no_connection(wire: Wire, listen: Listen) -> None:
    over = threading.Event()

    def stall(_: socket.socket) -> None:
        over.wait(20)

    port = listen(stall)

    async def send() -> Outcome:
        key = KeyEntry("main", Secret("sk-canary-0123456789"), f"https://127.0.0.1:{port}/v1")
        client = wire(timeout_s=0.4, connections=4)
        async with aclosing(client):
            longer = KeyEntry(key.name, key.api_key, key.base_url, timeout_s=30)
            return await client.send(longer, "chat/completions", b"{}")

    outcome = asyncio.run(send())
    over.set()

    assert isinstance(outcome, TransportFault)
    assert (outcome.kind, outcome.message) == (
        FaultKind.CONNECT,
        f"cannot connect to 127.0.0.1:{port}: no connection in 0.4 s",
    )
