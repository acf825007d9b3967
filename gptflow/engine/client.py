"""The wire: sends bytes with a key, and gives back a response or a fault, both as values."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import NamedTuple

from pyreqwest.client import Client as Connections
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import (
    BuilderError,
    DetailedPyreqwestError,
    ReadTimeoutError,
    RequestError,
    RequestTimeoutError,
)
from pyreqwest.http import HeaderMap
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import RequestBuilder

from gptflow.engine import faults
from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.config import KeyEntry
from gptflow.engine.proxies import Proxy
from gptflow.engine.route import Route, Routes
from gptflow.engine.trust import spare_roots
from gptflow.engine.wire_thread import wait_for_wire_thread

_MOST_TARGETS = 10_000


class _Target(NamedTuple):
    """Where requests of one key to one path go. Built once, since building costs."""

    key: KeyEntry
    """Held so that no other key can come to live at its address, by which targets are found."""
    route: Route
    connections: Connections
    headers: HeaderMap
    deadline: timedelta


class Client:
    """Connections to the servers of all keys. Belongs to the event loop that it is entered in.

    HTTP/1.1, one connection a request in flight: HTTP/2 would squeeze all calls through the stream
    limit of one. No redirects (they turn a POST into a GET), no cookies, no referer. Proxies come
    from the environment: see `proxies`. Does not work in a process that was forked after the first
    one was built: see `open_client`.
    """

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        """Build the client.

        Args:
            timeout_s: deadline on the wall for a whole attempt, from connecting to the last byte,
                of keys that name none. A server that drips a byte a second outlives every read
                timeout.
            connections: how many are kept open between requests.

        Raises:
            RuntimeError: the process was forked after a client was built.
        """
        self._routes = Routes(timeout_s, os.environ)
        self._idle = connections
        self._targets: dict[tuple[int, str], _Target] = {}
        self._by_proxy: dict[Proxy | None, Connections] = {None: self._connections(None)}
        self._closed = False

    async def aclose(self) -> None:
        """Closes all connections; what is in flight becomes a fault."""
        self._closed = True
        self._targets.clear()  # idle connections last as long as there are references to them
        while self._by_proxy:
            _, connections = self._by_proxy.popitem()
            await connections.close()
        wait_for_wire_thread()

    async def send(self, key: KeyEntry, endpoint: str, body: bytes) -> Response | TransportFault:
        """One attempt to POST a body to an endpoint.

        Cancelling it comes back at once, but pyreqwest does not abort what it has sent: the server
        works on until it has answered, or the deadline closes the connection.
        """
        target = self._targets.get((id(key), endpoint))
        if target is None:
            aimed = self._aim(key, endpoint, json_body=True)
            if isinstance(aimed, TransportFault):
                return aimed
            self._keep(endpoint, aimed)
            target = aimed
        request = target.connections.post(target.route.url).body_bytes(body)
        return await _received(request, target)

    async def get(self, key: KeyEntry, path: str) -> Response | TransportFault:
        """One attempt to GET what is at a path below the base URL, such as "models"."""
        target = self._aim(key, path, json_body=False)
        if isinstance(target, TransportFault):
            return target
        return await _received(target.connections.get(target.route.url), target)

    def _aim(self, key: KeyEntry, path: str, *, json_body: bool) -> _Target | TransportFault:
        if self._closed:
            return faults.broken("the client is closed")
        route = self._routes.find(key, path, json_body=json_body)
        if isinstance(route, TransportFault):
            return route
        if route.proxy not in self._by_proxy:
            try:
                self._by_proxy[route.proxy] = self._connections(route.proxy)
            except ValueError:  # of pyreqwest, for a name that no look-up takes
                return TransportFault(FaultKind.PROXY, f"{route.proxy} has no valid name")
        return _Target(
            key=key,
            route=route,
            connections=self._by_proxy[route.proxy],
            headers=_header_map(route),
            deadline=timedelta(seconds=route.whole_s),
        )

    def _keep(self, endpoint: str, target: _Target) -> None:
        if len(self._targets) >= _MOST_TARGETS:  # a configuration reloaded for days on end
            self._targets.clear()
        self._targets[id(target.key), endpoint] = target

    def _connections(self, proxy: Proxy | None) -> Connections:
        try:
            return self._builder(proxy).build()
        except BuilderError:  # the machine has no certificates, or SSL_CERT_FILE is wrong
            roots = spare_roots().read_bytes()
            return self._builder(proxy).add_root_certificate_pem(roots).build()

    def _builder(self, proxy: Proxy | None) -> ClientBuilder:
        builder = (
            ClientBuilder()
            .http1_only()
            .follow_redirects(False)
            .referer(False)
            .connect_timeout(timedelta(seconds=self._routes.connect_s))
            .pool_max_idle_per_host(self._idle)
            .no_proxy()
        )
        if proxy is None:
            return builder
        through = ProxyBuilder.all(proxy.address)
        if proxy.user:
            through = through.basic_auth(proxy.user, proxy.password.reveal())
        return builder.proxy(through)


def _header_map(route: Route) -> HeaderMap:
    headers = HeaderMap()
    for name, value in route.headers:
        headers.append(name, value, is_sensitive=True)
    return headers


async def _received(request: RequestBuilder, target: _Target) -> Response | TransportFault:
    began = time.monotonic()
    try:
        async with (
            request.headers(target.headers).timeout(target.deadline).build_streamed() as response
        ):
            content = await response.body_reader.read(faults.LARGEST_BODY + 1)
            body = content.to_bytes() if content else b""
            whole = Response(response.status, response.headers, body)
    except RequestError as error:
        return _fault_of(error, target.route, time.monotonic() - began)
    return faults.received(target.route, whole)


def _fault_of(error: RequestError, route: Route, took_s: float) -> TransportFault:
    """What pyreqwest raised, in our words: its own text shows the URL."""
    causes = _causes(error)
    told = causes[-1] if causes else str(error.args[0])
    connecting = "client error (Connect)" in causes
    if isinstance(error, RequestTimeoutError):
        # pyreqwest calls it a connect timeout, too, when the headers do not come.
        if connecting:
            return faults.late_to_connect(route)
        return faults.late(route, began=isinstance(error, ReadTimeoutError), took_s=took_s)
    if connecting:
        return _unconnected(told, route)
    if "parsed" in told:  # "invalid HTTP version parsed", "invalid header name parsed"
        return faults.not_http(route)
    return faults.broken(told, route)


def _unconnected(told: str, route: Route) -> TransportFault:
    if "invalid peer certificate" in told:
        return faults.untrusted(told.partition("invalid peer certificate: ")[2], route)
    if "corrupt message" in told:
        return faults.without_tls(route)
    if "proxy authorization required" in told:
        return faults.denied(route)
    return faults.unconnected(told, route)


def _causes(error: DetailedPyreqwestError) -> list[str]:
    return [cause["message"] for cause in error.details["causes"] or ()]
