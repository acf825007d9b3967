"""A Lark endpoint on loopback, for tests: it keeps what it was sent, and answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOKEN = "canary-hook-9f2c4e"
"""In the path of every hook here: it may occur nowhere else."""
HANG_S = 20.0
"""How long a reply that hangs holds its connection, if nobody ends the server before."""


@dataclass(frozen=True)
class Reply:
    """One answer: by default Lark's yes."""

    code: int | None = 0
    status: int = 200
    content: bytes | None = None
    """In place of Lark's JSON."""
    delay_s: float = 0
    hangs: bool = False
    drips: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        if self.content is not None:
            return self.content
        return json.dumps({"code": self.code, "msg": "a message of Lark's", "data": {}}).encode()


@dataclass
class Received:
    """One message, as it came."""

    body: dict[str, Any]
    size_bytes: int
    path: str
    at_s: float

    @property
    def text(self) -> str:
        """The words of the message, the title first."""
        body = self.body
        if body["msg_type"] == "text":
            return str(body["content"]["text"])
        if body["msg_type"] == "interactive":
            card = body["card"]
            texts = [element["text"]["content"] for element in card["elements"]]
            return "\n".join([card["header"]["title"]["content"], *texts])
        (post,) = body["content"]["post"].values()
        lines = ["".join(node["text"] for node in line) for line in post["content"]]
        return "\n".join([post["title"], *lines])


@dataclass
class LarkServer:
    """`with LarkServer() as lark`: `lark.hook` is the URL, `lark.received` what came."""

    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    """Given in turn; the last one is given for ever."""
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.over = threading.Event()
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.lark = self

    def __enter__(self) -> Self:
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def hook(self) -> str:
        port = self._server.server_address[1]
        return f"http://127.0.0.1:{port}/open-apis/bot/v2/hook/{TOKEN}"

    @property
    def texts(self) -> list[str]:
        """The words of all messages, in order."""
        return [message.text for message in self.received]

    def answer_with(self, *replies: Reply) -> None:
        """The next answers; the last one is given for ever."""
        self.replies = list(replies)

    def wait_for(self, count: int, timeout_s: float = 10) -> list[str]:
        """The words of all messages, once there are `count`; fails if there never are."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.received) >= count, timeout_s)
        assert came, f"{len(self.received)} of {count} messages came: {self.texts}"
        return self.texts

    def take(self, received: Received) -> Reply:
        with self._changed:
            self.received.append(received)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            self._changed.notify_all()
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    lark: LarkServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        lark = self.server.lark
        received = Received(json.loads(content), len(content), self.path, time.monotonic())
        reply = lark.take(received)
        if reply.hangs:
            lark.over.wait(HANG_S)
            return
        lark.over.wait(reply.delay_s)
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if reply.drips:
            while not lark.over.wait(0.05):
                self.wfile.write(b" ")
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has there)
        """Says nothing."""
