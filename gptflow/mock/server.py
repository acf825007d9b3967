"""Runs the simulated server on loopback: in a thread for tests and --mock, or until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Self

from gptflow.errors import UsageError
from gptflow.mock.app import MockApp, Stats
from gptflow.mock.listener import BACKLOG, bound_socket, uvicorn_server
from gptflow.mock.log import LogEntry, RequestLog
from gptflow.mock.reply import ReplyText
from gptflow.mock.scenario import Scenario
from gptflow.mock.simulator import Simulator


class MockServer:
    """An OpenAI-compatible server on loopback, in a thread of its own.

    It accepts connections from its construction on, and answers them once `start` was called, or
    within `with`. A port of 0 takes a free one. `reply` replaces the scenario's reply: it is given
    the request's body. `on_request` hears of each request that is through; both are called in the
    server's thread. Raises UsageError for a host that is not loopback, or a port that is taken.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        reply: ReplyText | None = None,
        on_request: Callable[[LogEntry], None] | None = None,
    ) -> None:
        scenario = scenario or Scenario()
        self._log = RequestLog(scenario.log) if scenario.log else None
        try:
            self._socket = _listening(host, port)
        except UsageError:
            if self._log:
                self._log.close()
            raise
        shown, bound_port, *_ = self._socket.getsockname()
        self._base_url = f"http://{f'[{shown}]' if ':' in shown else shown}:{bound_port}/v1"
        listeners = [on_request] if on_request else []
        if self._log:
            listeners.append(self._log.write)
        simulator = Simulator(scenario, time.monotonic(), reply)
        self._app = MockApp(simulator, listeners, self._plan_outages)
        self._server = uvicorn_server(self._app)
        self._outages = scenario.outages
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="gptflow mock", daemon=True
        )

    @property
    def base_url(self) -> str:
        """What goes into config.json: http://127.0.0.1:PORT/v1."""
        return self._base_url

    @property
    def stats(self) -> Stats:
        """What it has seen so far. It goes on counting."""
        return self._app.stats

    @property
    def requests(self) -> int:
        """How many requests came so far."""
        return self._app.stats.requests

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Break off what is in flight, write out the log, and end."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        if self._log:
            self._log.close()

    def _plan_outages(self) -> None:
        """Within the server's loop, when the first request has come."""
        loop = asyncio.get_running_loop()
        for outage in self._outages:
            loop.call_later(outage.at, self._leave)
            loop.call_later(outage.at + outage.lasts, self._come_back)

    def _leave(self) -> None:
        address = self._socket.getsockname()
        self._server.leave()
        self._socket = bound_socket(self._socket.family, address)

    def _come_back(self) -> None:
        self._server.come_back(self._socket)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def serve(scenario: Scenario, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `announce` is given the base URL once it answers."""
    stopped = threading.Event()
    with _signals_to(stopped), MockServer(scenario, host=host, port=port) as server:
        announce(server.base_url)
        stopped.wait()


@contextlib.contextmanager
def _signals_to(event: threading.Event) -> Iterator[None]:
    """Let the signals that end a process set the event instead."""

    def note(_number: int, _frame: FrameType | None) -> None:
        event.set()

    earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, action in earlier.items():
            signal.signal(number, action)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that queues connections until the server's thread takes them."""
    if host != "localhost" and not _is_loopback(host):
        raise UsageError(
            f"{host} is not a loopback address, and the simulator is not for a network",
            hint="use 127.0.0.1",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = bound_socket(family, (host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="choose another port; 0 takes a free one",
        ) from None
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
