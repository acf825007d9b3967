"""Stretches of time as people and as OpenAI write them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h)")


def seconds(text: str) -> float:
    """The seconds of `50ms`, `1.5s`, `2m` or `1h`; ValueError for anything else."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise ValueError("a duration is a number of seconds, or a text such as 50ms, 1.5s, 2m, 1h")
    return float(found[1]) * _UNITS_S[found[2]]


def go_duration(wait_s: float) -> str:
    """A duration as Go prints it, which OpenAI's headers do: 12ms, 1.5s, 6m0s, 1h2m3s.

    Rounded up to a millisecond, so that nobody who waits for it comes too early.
    """
    total_ms = max(0, math.ceil(wait_s * 1000 - 1e-6))
    if 0 < total_ms < 1000:
        return f"{total_ms}ms"
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def iso_time(unix_s: float) -> str:
    """A moment as Anthropic writes it: 2026-01-31T12:00:00.000Z."""
    iso = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
    return iso.replace("+00:00", "Z")
