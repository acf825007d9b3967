"""The wire for a process that was forked: slower than `client`, whose threads stay behind."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import openai

from gptflow.engine import faults
from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.config import KeyEntry
from gptflow.engine.exceptions import http_library
from gptflow.engine.proxies import Proxy
from gptflow.engine.route import Route, Routes
from gptflow.engine.trust import tls_context

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})


class ForkedClient:
    """As `Client`: the same requests, replies and faults, over the HTTP library of openai.

    Only its transport is used: the variables OPENAI_* and openai's own headers and retries play no
    part.
    """

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        """As that of `Client`; `connections` is the most that are open at a time."""
        self._routes = Routes(timeout_s, os.environ)
        self._http = http_library()
        self._limits = self._http.Limits(
            max_connections=connections, max_keepalive_connections=connections
        )
        self._by_proxy: dict[Proxy | None, Any] = {}
        self._closed = False

    async def aclose(self) -> None:
        """Closes all connections; what is in flight becomes a fault."""
        self._closed = True
        while self._by_proxy:
            _, connections = self._by_proxy.popitem()
            await connections.aclose()

    async def send(self, key: KeyEntry, endpoint: str, body: bytes) -> Response | TransportFault:
        """One attempt to POST a body to an endpoint. Cancelling it closes its connection."""
        route = self._routes.find(key, endpoint, json_body=True)
        if isinstance(route, TransportFault):
            return route
        return await self._received(route, "POST", body)

    async def get(self, key: KeyEntry, path: str) -> Response | TransportFault:
        """One attempt to GET what is at a path below the base URL, such as "models"."""
        route = self._routes.find(key, path, json_body=False)
        if isinstance(route, TransportFault):
            return route
        return await self._received(route, "GET", None)

    async def _received(
        self, route: Route, method: str, body: bytes | None
    ) -> Response | TransportFault:
        if self._closed:
            return faults.broken("the client is closed")
        began, sent_at = False, time.monotonic()
        try:
            connections = self._through(route.proxy)
            request = connections.build_request(
                method, route.url, headers=route.headers, content=body
            )
            async with asyncio.timeout(route.whole_s):
                response = await connections.send(request, stream=True)
                began = True
                try:
                    content = await _read(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            return faults.late(route, began=began, took_s=time.monotonic() - sent_at)
        except self._http.RequestError as error:
            return fault_of(error, route)
        except (ImportError, ValueError):  # of httpx, for a proxy that speaks SOCKS
            told = f"{route.proxy} cannot be used in a process that was forked"
            return TransportFault(FaultKind.PROXY, told)
        return faults.received(route, Response(response.status_code, response.headers, content))

    def _through(self, proxy: Proxy | None) -> Any:
        if proxy not in self._by_proxy:
            timeout = self._http.Timeout(None, connect=self._routes.connect_s)
            self._by_proxy[proxy] = open_connections(proxy, self._limits, timeout)
        return self._by_proxy[proxy]


def open_connections(proxy: Proxy | None, limits: Any, timeout: Any) -> Any:
    """Connections through a proxy, or past any, by the HTTP library of openai.

    The environment plays no part but by `proxies` and `trust`, and nothing is followed or kept.
    """
    login = (proxy.user, proxy.password.reveal()) if proxy and proxy.user else None
    connections = openai.DefaultAsyncHttpxClient(
        timeout=timeout,
        limits=limits,
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        verify=tls_context(os.environ),
        proxy=http_library().Proxy(proxy.address, auth=login) if proxy else None,
    )
    unpacks = connections.headers["accept-encoding"]
    connections.headers = {"accept-encoding": unpacks}
    return connections


def fault_of(error: Exception, route: Route) -> TransportFault:
    """What httpx raised, in our words: its own text may show addresses, and even headers."""
    http, cause = http_library(), _first(error)
    if isinstance(error, http.ConnectTimeout):
        return faults.late_to_connect(route)
    if isinstance(error, http.ProxyError) and str(error).startswith("407"):
        return faults.denied(route)
    if isinstance(error, http.ConnectError | http.ProxyError):
        return _unconnected(cause, route)
    if isinstance(error, http.RemoteProtocolError) and "illegal" in str(error):
        return faults.not_http(route)
    if isinstance(error, http.DecodingError):
        return faults.broken("what came cannot be unpacked", route)
    return faults.broken(_told(cause), route)


async def _read(response: Any) -> bytes:
    """The body, as far as it is not too large."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > faults.LARGEST_BODY:
            break
    return bytes(body)


def _unconnected(cause: BaseException, route: Route) -> TransportFault:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return faults.untrusted(cause.verify_message, route)
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return faults.without_tls(route)
    return faults.unconnected(_told(cause), route)


def _first(error: BaseException) -> BaseException:
    """The cause at the bottom; of several addresses of one host, what the first one met."""
    if isinstance(error, BaseExceptionGroup):
        return _first(error.exceptions[0])
    cause = error.__cause__ or error.__context__
    return error if cause is None else _first(cause)


def _told(cause: BaseException) -> str:
    if isinstance(cause, ssl.SSLError):
        return cause.reason or "TLS failed"
    if isinstance(cause, OSError) and cause.errno:
        # Its own text names the address; errors of name look-up alone have no number below.
        return str(cause.strerror) if cause.errno < 0 else os.strerror(cause.errno)
    return str(cause) or type(cause).__name__
