"""A request as it comes, and the answer as it goes."""

from __future__ import annotations

import msgspec

from gptflow.mock.failure.model import JSON, Cut, Header, error_object
from gptflow.mock.request import Request


class Incoming(msgspec.Struct, frozen=True):
    """A request as HTTP brings it."""

    method: str
    path: str
    key: str
    """The bearer token; empty if there is none."""
    body: bytes
    query: str = ""
    """What follows the question mark."""


class Moment(msgspec.Struct, frozen=True):
    """When a request came, and among how many."""

    now_s: float
    unix_s: float
    since_s: float
    """Seconds since the server's first request."""
    in_flight: int
    """How many others were being served."""


class Answer(msgspec.Struct, frozen=True):
    """What goes back, how it goes, and when."""

    status: int
    headers: list[Header]
    body: bytes | bytearray
    latency_s: float = 0.0
    cut: Cut | None = None
    failure: str | None = None
    """The name in the catalogue, if it is a failure of that."""
    request: Request | None = None
    """What was asked, if it could be understood."""
    completion_tokens: int = 0
    """What the answer bills beside the prompt; 0 for a failure."""
    lines: int | None = None
    """How many lines there are in a file that comes or goes, or in a batch that begins."""
    made: str | None = None
    """The id of a file or batch that there is from now on."""


def refused(status: int, message: str, param: str | None = None, code: str | None = None) -> Answer:
    """OpenAI's refusal of a request that is wrong in itself."""
    body = error_object(message, "invalid_request_error", code, param)
    return Answer(status, [(b"content-type", JSON)], body)
