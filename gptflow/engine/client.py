"""The wire: sends bytes with a key, and gives back a response or a fault, both as values."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import (
    DetailedPyreqwestError,
    RequestError,
    RequestTimeoutError,
)
from pyreqwest.http import HeaderMap
from pyreqwest.request import RequestBuilder

from gptflow import __version__
from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.config import KeyEntry

CONNECT_TIMEOUT_S = 10.0
LARGEST_BODY = 64 * 1024 * 1024
"""Bytes after decompression. A reply of a million tokens is a tenth of it."""
_MOST_TARGETS = 10_000


class Target(NamedTuple):
    """Where requests of one key to one path go. Built once, since building costs."""

    key: KeyEntry
    """Held so that no other key can come to live at its address, by which targets are found."""
    url: str
    headers: HeaderMap
    deadline: timedelta | None
    """In place of the client's."""


class Client:
    """Connections to the servers of all keys. Belongs to the event loop that it is entered in.

    HTTP/1.1, one connection a request in flight: HTTP/2 would squeeze all calls through the stream
    limit of one. No redirects (they turn a POST into a GET), no cookies, no referer. Proxies come
    from the environment (HTTPS_PROXY, NO_PROXY, ...).
    """

    def __init__(self, *, timeout_s: float, connections: int) -> None:
        """Build the client.

        Args:
            timeout_s: deadline on the wall for a whole attempt, from connecting to the last byte.
                A server that drips a byte a second outlives every read timeout.
            connections: how many are kept open between requests.
        """
        self._timeout_s = timeout_s
        self._targets: dict[tuple[int, str], Target] = {}
        self._http = (
            ClientBuilder()
            .http1_only()
            .follow_redirects(False)
            .referer(False)
            .user_agent(f"gptflow/{__version__}")
            .timeout(timedelta(seconds=timeout_s))
            .connect_timeout(timedelta(seconds=min(CONNECT_TIMEOUT_S, timeout_s)))
            .pool_max_idle_per_host(connections)
            .build()
        )

    async def aclose(self) -> None:
        """Closes all connections; what is in flight becomes a fault."""
        await self._http.close()

    async def send(self, key: KeyEntry, endpoint: str, body: bytes) -> Response | TransportFault:
        """One attempt to POST a body to an endpoint. Cancelling it closes its connection."""
        target = self._targets.get((id(key), endpoint)) or self._aim(key, endpoint)
        request = self._http.post(target.url).headers(target.headers).body_bytes(body)
        return await self._receive(request, target)

    async def get(self, key: KeyEntry, path: str) -> Response | TransportFault:
        """One attempt to GET what is at a path below the base URL, such as "models"."""
        target = self._targets.get((id(key), path)) or self._aim(key, path)
        return await self._receive(self._http.get(target.url).headers(target.headers), target)

    async def _receive(self, request: RequestBuilder, target: Target) -> Response | TransportFault:
        if target.deadline is not None:
            request = request.timeout(target.deadline)
        try:
            async with request.build_streamed() as response:
                received = await response.body_reader.read(LARGEST_BODY + 1)
                content = received.to_bytes() if received else b""
                status, headers = response.status, response.headers
        except RequestError as error:
            return fault_of(error, target.key.timeout_s or self._timeout_s)
        if len(content) > LARGEST_BODY:
            return TransportFault(
                FaultKind.OVERSIZE, f"the response is larger than {LARGEST_BODY:,} bytes"
            )
        return Response(status, headers, content)

    def _aim(self, key: KeyEntry, path: str) -> Target:
        if len(self._targets) >= _MOST_TARGETS:  # a configuration reloaded for days on end
            self._targets.clear()
        headers = HeaderMap([("content-type", "application/json"), ("accept", "application/json")])
        headers["authorization"] = f"Bearer {key.api_key.reveal()}"
        if key.organization:
            headers["openai-organization"] = key.organization
        for name, value in key.headers:
            headers[name] = value.reveal()
        deadline = None if key.timeout_s is None else timedelta(seconds=key.timeout_s)
        target = Target(key, f"{key.base_url}/{path}", headers, deadline)
        self._targets[id(key), path] = target
        return target


def fault_of(error: RequestError, timeout_s: float) -> TransportFault:
    """What pyreqwest raised, in our words: its own text shows the URL."""
    causes = _causes(error)
    told = causes[-1] if causes else str(error.args[0])
    connecting = "client error (Connect)" in causes
    if isinstance(error, RequestTimeoutError) and not connecting:
        # pyreqwest calls it a connect timeout, too, when the headers do not come.
        return TransportFault(FaultKind.TIMEOUT, f"no whole reply in {timeout_s:g} s")
    if "certificate" in told:
        return TransportFault(FaultKind.CERTIFICATE, f"cannot trust the server: {told}")
    if "proxy authorization required" in told:
        return TransportFault(FaultKind.PROXY, "the proxy wants a user and a password")
    if connecting:
        return TransportFault(FaultKind.CONNECT, f"cannot connect: {told}")
    return TransportFault(FaultKind.BROKEN, f"the connection broke: {told}")


def _causes(error: DetailedPyreqwestError) -> list[str]:
    return [cause["message"] for cause in error.details["causes"] or ()]
