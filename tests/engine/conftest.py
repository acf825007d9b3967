"""A server that sends exact bytes, faults of the transport included."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from gptflow.engine.client import Client
from gptflow.engine.forked_client import ForkedClient

CHOICE = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},'
    b'"finish_reason":"stop"}],"model":"m-1","usage":{"prompt_tokens":5,"completion_tokens":1}}'
)


def respond(status: int = 200, body: bytes = CHOICE, **headers: str) -> bytes:
    """The bytes of a whole response; `retry_after="3"` becomes a header."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase if status != 529 else 'Overloaded'}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["content-type: application/json", f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, script: dict[str, list[bytes]], requests: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.script = {key: list(answers) for key, answers in script.items()}
        self.requests = requests
        self.over = threading.Event()
        self.turn = threading.Lock()

    def next_answer(self, request: bytes) -> bytes:
        """The next answer in the script of the request's key; the last one is given for ever."""
        found = re.search(rb"(?i)authorization: Bearer (\S+)", request)
        key = found[1].decode() if found else ""
        with self.turn:
            self.requests.append(request)
            answers = self.script.get(key) or self.script["*"]
            return answers.pop(0) if len(answers) > 1 else answers[0]


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while request := self._read():
                if not self._answer(self.server.next_answer(request)):
                    return

    def _read(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return b""
            head += line
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return head + self.rfile.read(int(length[1]) if length else 0)

    def _answer(self, answer: bytes) -> bool:
        """Sends an answer, or does the fault that it names; False if the connection ends."""
        fault, _, rest = answer.partition(b":")
        match fault:
            case b"HANG":
                self.server.over.wait(20)
            case b"RESET":
                self.wfile.write(rest)
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            case b"CUT":
                self.wfile.write(rest)
            case b"DRIP":
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                while not self.server.over.wait(0.02):
                    self.wfile.write(b" ")
            case b"SLOW":
                time.sleep(0.03)
                self.wfile.write(rest)
                return True
            case _:
                self.wfile.write(answer)
                return True
        return False


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the machine must not come between the tests and their servers."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def requests() -> list[bytes]:
    """Every request that the server of `serve` has read, in order."""
    return []


@pytest.fixture
def serve(requests: list[bytes]) -> Iterator[Callable[..., str]]:
    """Starts a server: `serve(answer, ...)` for all keys, or `serve({key: [answer, ...]})`.

    Returns the base URL. An answer is what `respond` gives, or HANG:, RESET:, CUT:<bytes>, DRIP:.
    """
    servers: list[_Server] = []

    def start(*answers: bytes | dict[str, list[bytes]]) -> str:
        script: dict[str, list[bytes]] = {"*": [a for a in answers if isinstance(a, bytes)]}
        for by_key in answers:
            script |= by_key if isinstance(by_key, dict) else {}
        server = _Server(script, requests)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(name="respond")
def respond_fixture() -> Callable[..., bytes]:
    """The function that makes the bytes of a whole response."""
    return respond


@pytest.fixture(params=[Client, ForkedClient])
def wire(request: pytest.FixtureRequest) -> type[Client | ForkedClient]:
    """Each class of client: a test that takes it runs over both."""
    found: type[Client | ForkedClient] = request.param
    return found
