"""What a failure of the catalogue consists of, and the pieces that its bodies are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from email.utils import formatdate
from enum import StrEnum
from typing import Any

import msgspec

from gptflow.mock.duration import go_duration

Header = tuple[bytes, bytes]
Completion = dict[str, Any]
"""The answer that the request would have got, in the wire form."""

JSON = b"application/json"
HTML = b"text/html; charset=UTF-8"
TEXT = b"text/plain; charset=utf-8"


class Facts(msgspec.Struct, frozen=True):
    """What the text or the headers of a failure may name."""

    model: str = ""
    organization: str = ""
    key: str = ""
    """Masked."""
    whole_key: str = ""
    """As it came, for servers that quote it."""
    wait_s: float = 0.0
    """When to come again, as the server tells it."""
    now: float = 0.0
    """Unix time, for the hints that are dates."""
    limit: int = 0
    used: int = 0
    requested: int = 0

    @property
    def wait(self) -> str:
        """The wait as OpenAI writes it: 120ms, 20s, 6m0s."""
        return go_duration(self.wait_s)


Body = Callable[[Facts, Completion], bytes]
Hint = Callable[[Facts], list[Header]]


class Framing(StrEnum):
    """How the head of a broken answer says where its body ends."""

    LENGTH = "length"
    """By a content-length that counts the whole body."""
    CHUNKED = "chunked"
    """By chunks, of which the last one never comes."""
    CLOSE = "close"
    """By the end of the connection."""
    LONG_HEADER = "long header"
    """As LENGTH, behind a header of 2 MB."""
    NONE = "none"
    """There is no head."""


class Ending(StrEnum):
    """What becomes of the connection after the last byte that is sent."""

    CLOSE = "close"
    """An orderly end (FIN)."""
    RESET = "reset"
    """A reset (RST)."""
    HANG = "hang"
    """Nothing, until the client leaves."""


class Cut(msgspec.Struct, frozen=True):
    """An answer that HTTP itself does not allow, or that comes too slowly."""

    framing: Framing
    ending: Ending
    body_share: float = 1.0
    """How much of the body is sent."""
    drip_bytes: int = 0
    """So many bytes of the body are sent one by one, with `pause_s` before each."""
    pause_s: float = 0.0


class ServerFailure(msgspec.Struct, frozen=True):
    """One way to fail, as the provider puts it on the wire."""

    name: str
    about: str
    """One line for the guide."""
    status: int
    body: Body
    content_type: bytes = JSON
    """Empty: the answer has none."""
    headers: tuple[Header, ...] = ()
    hint: Hint | None = None
    """Headers that say when to come again."""
    wait_s: float = 0.0
    """The wait that is named when neither a limit nor the scenario sets one."""
    cut: Cut | None = None

    @property
    def shown_status(self) -> str:
        """The status for a person: a dash where the connection fails instead."""
        return "-" if self.cut else str(self.status)


def error(message: str, kind: str | None, code: str | int | None, param: str | None = None) -> Body:
    """The error object of OpenAI. `message` is a format string over the facts: {0.model}."""

    def body(facts: Facts, _: Completion) -> bytes:
        return error_object(message.format(facts), kind, code, param)

    return body


def error_object(
    message: str, kind: str | None, code: str | int | None, param: str | None
) -> bytes:
    """The error object of OpenAI, with the message as it is."""
    told = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": told})


def json_of(value: Any) -> Body:
    """A fixed JSON value."""
    return fixed(msgspec.json.encode(value))


def said(message: str, **more: Any) -> Body:
    """An error object with these members and no others."""
    return json_of({"error": {"message": message, **more}})


def fixed(content: bytes) -> Body:
    """Fixed bytes."""
    return lambda _, __: content


def page(title: str, text: str = "") -> Body:
    """An HTML page, such as proxies send."""
    return fixed(
        f"<!DOCTYPE html>\n<html>\n<head><title>{title}</title></head>\n"
        f"<body>\n<center><h1>{title}</h1></center>\n{text}\n</body>\n</html>\n".encode()
    )


def changed(change: Callable[[Completion], Any]) -> Body:
    """The answer that would have come, with a change to its value."""
    return lambda _, completion: msgspec.json.encode(change(completion))


def garbled(change: Callable[[bytes], bytes]) -> Body:
    """The answer that would have come, with a change to its bytes."""
    return lambda _, completion: change(msgspec.json.encode(completion))


def openai_hint(unit: str) -> Hint:
    """The headers of a refused request; `unit` is requests or tokens."""

    def headers(facts: Facts) -> list[Header]:
        told = {"limit": str(facts.limit), "remaining": "0", "reset": facts.wait}
        limits = [(f"x-ratelimit-{name}-{unit}".encode(), v.encode()) for name, v in told.items()]
        return limits + milliseconds_hint(facts)

    return headers


def milliseconds_hint(facts: Facts) -> list[Header]:
    """retry-after in whole seconds, and retry-after-ms."""
    return [
        *seconds_hint(facts),
        (b"retry-after-ms", b"%d" % math.ceil(facts.wait_s * 1000)),
    ]


def seconds_hint(facts: Facts) -> list[Header]:
    """retry-after in whole seconds, rounded up."""
    return [(b"retry-after", b"%d" % math.ceil(facts.wait_s))]


def date_hint(facts: Facts) -> list[Header]:
    """retry-after as the other form that HTTP allows: a date, in whole seconds."""
    return [(b"retry-after", formatdate(math.ceil(facts.now + facts.wait_s), usegmt=True).encode())]
