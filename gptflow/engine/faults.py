"""The faults of the wire in words for a person: never with the URL, which may be private."""

from __future__ import annotations

import os

from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.route import Route
from gptflow.engine.trust import advice

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes after decompression. A reply of a million tokens is a tenth of it."""

_UNKNOWN_ISSUER = ("UnknownIssuer", "issuer certificate", "self-signed", "self signed")
_PROXY_DENIES = 407


def late(route: Route, *, began: bool) -> TransportFault:
    """The deadline of the whole attempt has passed. `began`: a response had begun to come."""
    told = f"no whole reply in {route.whole_s:g} s"
    return TransportFault(FaultKind.TIMEOUT, f"{told}, though one began" if began else told)


def late_to_connect(route: Route) -> TransportFault:
    """There was no connection in time."""
    return unconnected(f"no connection in {route.connect_s:g} s", route)


def unconnected(told: str, route: Route) -> TransportFault:
    """There is no connection."""
    place = f" through {route.proxy}" if route.proxy else ""
    return TransportFault(FaultKind.CONNECT, f"cannot connect{place}: {told}")


def denied(route: Route) -> TransportFault:
    """The proxy wants to know who asks."""
    return TransportFault(
        FaultKind.PROXY,
        f"{route.proxy} does not take its user and password"
        if route.proxy and route.proxy.user
        else f"{route.proxy} wants a user and a password",
    )


def untrusted(told: str) -> TransportFault:
    """The server's certificate is not good."""
    hint = advice(os.environ) if any(sign in told for sign in _UNKNOWN_ISSUER) else ""
    return TransportFault(FaultKind.CERTIFICATE, f"cannot trust the server: {told}{hint}")


def without_tls() -> TransportFault:
    """What answered at an https URL was no TLS."""
    return TransportFault(
        FaultKind.CERTIFICATE,
        "cannot trust the server: it does not speak TLS, so its URL may have to begin with http://",
    )


def broken(told: str) -> TransportFault:
    """The connection was there, and broke."""
    return TransportFault(FaultKind.BROKEN, f"the connection broke: {told}")


def not_http(route: Route) -> TransportFault:
    """What came was not HTTP."""
    told = "what came is not HTTP"
    if route.url.startswith("http:"):
        told += "; a server that speaks TLS has a URL that begins with https://"
    return broken(told)


def received(route: Route, response: Response) -> Response | TransportFault:
    """A response, if it is one of the server's and not too large."""
    if len(response.body) > LARGEST_BODY:
        told = f"the response is larger than {LARGEST_BODY:,} bytes"
        return TransportFault(FaultKind.OVERSIZE, told)
    if response.status == _PROXY_DENIES and route.proxy:
        return denied(route)
    return response
