"""uvicorn as the simulator needs it: it can leave its port, come back, and end at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from gptflow.mock.app import MockApp
from gptflow.mock.wire import TRANSPORT

BACKLOG = 4096
_KEEP_ALIVE_S = 300
"""Longer than any pause of a client: a connection that ends by itself is a failure of its own."""


class Listener(Protocol):
    """A server that runs within a loop of its own."""

    should_exit: bool

    def run(self, sockets: list[socket.socket]) -> None:
        """Serve until `should_exit`."""

    def leave(self) -> None:
        """Break all connections and refuse new ones. Within the loop."""

    def come_back(self, listener: socket.socket) -> None:
        """Listen again. Within the loop."""


def bound_socket(family: int, address: Any) -> socket.socket:
    """A socket that keeps an address and refuses connections until it listens."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def uvicorn_server(app: MockApp) -> Listener:
    """A server for `app`, whose requests know their connection."""
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class HttpProtocol(HttpToolsProtocol):
        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item] # ASGI wants a dict, for what can be sent over a network

    class Server(uvicorn.Server):
        def leave(self) -> None:
            for server in self.servers:
                server.close()
            self.servers.clear()
            for connection in list(self.server_state.connections):
                connection.transport.abort()

        def come_back(self, listener: socket.socket) -> None:
            self._opening = asyncio.create_task(self._open(listener))

        async def _open(self, listener: socket.socket) -> None:
            loop = asyncio.get_running_loop()
            state = self.server_state, self.lifespan.state
            protocol = partial(HttpProtocol, config, *state, loop)
            opened = await loop.create_server(protocol, sock=listener, backlog=BACKLOG)
            self.servers.append(opened)

        async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
            # uvicorn's own would wait for the answers, of which some never come.
            self.leave()
            for listener in sockets or []:
                listener.close()
            while self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks)

    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    config.load()
    return Server(config)
