"""What one attempt to get a reply came to, before anyone has judged it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from gptflow.records import Reply


class Response(msgspec.Struct, frozen=True):
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    """Looked up in lower case. Reading one may raise ValueError where a server sends bytes that
    are not text: use `limits.header`."""
    body: bytes
    reply: Reply | None = None
    """What is in the body, where whoever has received it has read it already."""


class FaultKind(StrEnum):
    """How the transport failed."""

    CONNECT = "connect"
    """No connection: refused, no route, no such host, not in time. Nothing was sent."""
    CERTIFICATE = "certificate"
    """The server cannot be trusted: for its certificate, for ours, or since it speaks no TLS."""
    PROXY = "proxy"
    """The proxy wants credentials, or its variable in the environment names none."""
    TIMEOUT = "timeout"
    """No whole response in time. The server may have done the work."""
    BROKEN = "broken"
    """The connection broke, or what came was not HTTP. The server may have done the work."""
    OVERSIZE = "oversize"
    """The response is larger than anything a model says."""


class TransportFault(msgspec.Struct, frozen=True):
    """An attempt without a response."""

    kind: FaultKind
    message: str
    """One line for a person, with the host but never the URL, whose path may be private."""
    hint: str | None = None
    """What a person can do about it, where it is more than the kind tells."""
    was_stopped: bool = False
    """Whether this process stood still when the time was up: a reply may have come, and be lost."""


class FlawKind(StrEnum):
    """Why a response of status 200 is no reply."""

    ERROR = "error"
    """It carries an error object."""
    UNREADABLE = "unreadable"
    """It is not a chat completion."""
    REFUSED = "refused"
    """The model or a content filter declined."""
    EMPTY = "empty"
    """There is no content."""
    CUT_OFF = "cut off"
    """There is no content because a token limit came first."""
    BROKEN_OFF = "broken off"
    """The server says that it failed while generating."""


class Flaw(msgspec.Struct, frozen=True):
    """A response of status 200 that is no reply."""

    kind: FlawKind
    message: str
    text: str | None = None
    """What the model did say, if anything."""
    reply: Reply | None = None
    """The response as a reply, where it was paid for: the store keeps it, and a later run that
    asks the same is told the same."""
