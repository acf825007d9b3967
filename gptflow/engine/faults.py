"""The faults of the wire in words for a person: with the host, never with the rest of the URL."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.certificate import certificate_words
from gptflow.engine.route import Route
from gptflow.engine.trust import advice

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes after decompression. A reply of a million tokens is a tenth of it."""

_UNKNOWN_ISSUER = ("UnknownIssuer", "issuer certificate", "self-signed", "self signed")
_PROXY_DENIES = 407
_STOPPED_S = 1.0
"""A deadline that is noticed so late was noticed by a process that stood still."""


def late(route: Route, *, began: bool, took_s: float) -> TransportFault:
    """The deadline of the whole attempt has passed.

    Args:
        route: where it went.
        began: whether a response had begun to come.
        took_s: how long the attempt took by our own clock, until this was noticed.
    """
    told = f"no whole reply from {host_of(route)} in {route.whole_s:g} s"
    return TransportFault(
        FaultKind.TIMEOUT,
        f"{told}, though one began" if began else told,
        was_stopped=took_s > route.whole_s + _STOPPED_S,
    )


def late_to_connect(route: Route) -> TransportFault:
    """There was no connection in time."""
    return unconnected(f"no connection in {route.connect_s:g} s", route)


def unconnected(told: str, route: Route) -> TransportFault:
    """There is no connection."""
    place = f" through {route.proxy}" if route.proxy else ""
    return TransportFault(FaultKind.CONNECT, f"cannot connect to {host_of(route)}{place}: {told}")


def denied(route: Route) -> TransportFault:
    """The proxy wants to know who asks."""
    variable = route.proxy.variable if route.proxy else ""
    if route.proxy and route.proxy.user:
        told, hint = "does not take its user and password", f"correct them in {variable}"
    else:
        told = "wants a user and a password"
        hint = f"write them into {variable}: http://USER:PASSWORD@HOST:PORT"
    return TransportFault(FaultKind.PROXY, f"{route.proxy} {told}", hint)


def untrusted(told: str, route: Route) -> TransportFault:
    """The server's certificate is not good. `told`: what the TLS library says of it."""
    words, hint = certificate_words(told), "check base_url, and the server's certificate"
    if any(sign in told for sign in _UNKNOWN_ISSUER):
        words, hint = f"{words}{advice(os.environ)}", ""
    message = f"cannot trust the server {host_of(route)}: {words}"
    return TransportFault(FaultKind.CERTIFICATE, message, hint or None)


def without_tls(route: Route) -> TransportFault:
    """What answered at an https URL was no TLS."""
    return TransportFault(
        FaultKind.CERTIFICATE,
        f"cannot trust the server {host_of(route)}: it does not speak TLS, so its URL may have to "
        "begin with http://",
        "check base_url",
    )


def broken(told: str, route: Route | None = None) -> TransportFault:
    """The connection was there, and broke."""
    place = f" to {host_of(route)}" if route else ""
    return TransportFault(FaultKind.BROKEN, f"the connection{place} broke: {told}")


def not_http(route: Route) -> TransportFault:
    """What came was not HTTP."""
    told = "what came is not HTTP"
    if route.url.startswith("http:"):
        told += "; a server that speaks TLS has a URL that begins with https://"
    return broken(told, route)


def host_of(route: Route) -> str:
    """Host and port of the server. Safe to show, as the user, password and path are not."""
    return urlsplit(route.url).netloc.rpartition("@")[2].lower()


def received(route: Route, response: Response) -> Response | TransportFault:
    """A response, if it is one of the server's and not too large."""
    if len(response.body) > LARGEST_BODY:
        told = f"the response is larger than {LARGEST_BODY:,} bytes"
        return TransportFault(FaultKind.OVERSIZE, told)
    if response.status == _PROXY_DENIES and route.proxy:
        return denied(route)
    return response
