"""How a server tells what is left of a limit, and when to come again after a refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import msgspec

from gptflow.mock.duration import go_duration, iso_time
from gptflow.mock.failure.model import Facts, Header, milliseconds_hint

Dialect = Literal["openai", "azure", "anthropic", "none"]
"""Whose headers tell the limits."""

Places = Literal["both", "header", "message", "none"]
"""Where a refusal names the wait."""


class Level(msgspec.Struct, frozen=True):
    """The state of one limit, as a server tells it."""

    unit: str
    """requests or tokens."""
    limit: int
    remaining: int
    full_in_s: float
    """Until all of it is back, which is what the headers call reset."""


Teller = Callable[[Level, float], list[Header]]
"""The headers for a level at a Unix time."""


def _openai(level: Level, _: float) -> list[Header]:
    return _numbered("x-ratelimit-{}-" + level.unit, level, go_duration(level.full_in_s))


def _azure(level: Level, _: float) -> list[Header]:
    """As OpenAI's, but for reset, which is a bare number of seconds."""
    return _numbered("x-ratelimit-{}-" + level.unit, level, str(math.ceil(level.full_in_s)))


def _anthropic(level: Level, unix_s: float) -> list[Header]:
    end = iso_time(unix_s + level.full_in_s)
    return _numbered(f"anthropic-ratelimit-{level.unit}-{{}}", level, end)


def _numbered(name: str, level: Level, reset: str) -> list[Header]:
    return [
        (name.format("limit").encode(), b"%d" % level.limit),
        (name.format("remaining").encode(), b"%d" % level.remaining),
        (name.format("reset").encode(), reset.encode()),
    ]


TELLERS: dict[Dialect, Teller] = {
    "openai": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
    "none": lambda _, __: [],
}

_REACHED: dict[tuple[Dialect, str], str] = {
    ("openai", "requests"): "rate_limit_rpm",
    ("openai", "tokens"): "rate_limit_tpm",
    ("azure", "requests"): "rate_limit_azure",
    ("azure", "tokens"): "rate_limit_azure",
}


def refusal_name(dialect: Dialect, unit: str, wait: Places) -> str:
    """The failure of the catalogue whose body says that a limit is reached."""
    if dialect == "anthropic" and wait != "message":  # its messages name no wait
        return "rate_limit_anthropic"
    if wait in ("both", "message"):
        return _REACHED.get((dialect, unit), "rate_limit_text_only")
    return "rate_limit_silent"


def wait_headers(wait: Places, wait_s: float) -> list[Header]:
    """Retry-After, where it is told."""
    return milliseconds_hint(Facts(wait_s=wait_s)) if wait in ("both", "header") else []
