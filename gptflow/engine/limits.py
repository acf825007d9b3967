"""What servers say about when to come back.

Two kinds of hints: an answer to "when may I try again" (Retry-After, "try again in 20s"), and the
time until a bucket is full again (x-ratelimit-reset-*), which is later than needed. The second
counts only where the first is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

LONGEST_WAIT_S = 86_400.0
"""A day: Azure was seen to name it. Whoever says more is asked again after that."""

_RESETS = (
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-input-tokens-reset",
    "anthropic-ratelimit-output-tokens-reset",
)

_UNIT_S = {"ms": 0.001, "us": 1e-6, "µs": 1e-6, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(
    r"(\d+(?:\.\d+)?)\s*"
    r"(ms|[uµ]s|s|m|h|d|milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?)\b"
    r"|(\d+(?:\.\d+)?)(ms|[uµ]s|s|m|h|d)(?=\d)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_IN_WORDS = re.compile(
    r"\b(?:try again|retry|wait|available)\b[^.\d]{0,40}?((?:\d+(?:\.\d+)?\s*[a-zµ]+[\s,]*)+)",
    re.IGNORECASE,
)

_STATED = re.compile(
    r"rate limit reached for .{0,160}? on (?P<measure>requests|tokens) per min\b.{0,10}?:? "
    r"limit:? (?P<limit>\d+)\b(?:.{0,60}?\brequested:? (?P<requested>\d+))?",
    re.IGNORECASE,
)


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's value, or None if it is absent or not text."""
    try:
        value = headers.get(name)
    except ValueError:  # pyreqwest's answer to bytes outside of ASCII
        return None
    return value.strip() if value else None


def parse_wait(headers: Mapping[str, str], message: str, now_wall: float) -> float | None:
    """Seconds until the server wants to be asked again, or None if it does not say.

    Of several hints of the same kind the longest counts. Zero, negative and absurd ones do not.
    `message` is the error's own message, never the body, which may quote a prompt. A date is
    compared with the response's own, and with `now_wall` only where that is missing: the clock of
    this machine may be wrong, or be set while a run works.
    """
    after = header(headers, "retry-after")
    after_ms = header(headers, "retry-after-ms")
    wall = server_wall(headers, lambda: now_wall)
    named = _longest(
        (
            _number(after_ms) / 1000 if after_ms else math.nan,
            moment_s(after, wall) if after else math.nan,
            _in_words(message),
        )
    )
    if named is not None:
        return named
    resets = (header(headers, name) for name in _RESETS)
    return _longest(moment_s(value, wall) for value in resets if value)


def server_wall(headers: Mapping[str, str], wall: Callable[[], float]) -> Callable[[], float]:
    """Seconds since 1970 by the clock of who sent a response; `wall` where it does not tell."""

    def told() -> float:
        date = header(headers, "date")
        try:
            return parsedate_to_datetime(date).timestamp() if date else wall()
        except (ValueError, OverflowError):
            return wall()

    return told


class StatedLimit(NamedTuple):
    """The limit that a refusal states in words."""

    per_minute: float
    of_tokens: bool
    requested: float | None
    """What this one call is charged, where it is said."""


def stated_limit(message: str) -> StatedLimit | None:
    """The limit per minute that an error's message states; None where it states none.

    Only the start of a message counts, as further on it may quote the prompt.
    """
    found = _STATED.match(message)
    if found is None:
        return None
    of_tokens = "token" in found["measure"].lower()
    requested = float(found["requested"]) if found["requested"] else None
    return StatedLimit(float(found["limit"]), of_tokens, requested)


def _longest(waits_s: Iterable[float]) -> float | None:
    sane = [wait_s for wait_s in waits_s if math.isfinite(wait_s) and wait_s > 0]
    return min(max(sane), LONGEST_WAIT_S) if sane else None


def moment_s(text: str, wall: Callable[[], float]) -> float:
    """Seconds from a number, a duration (6m0s), an HTTP date or an ISO date; NaN from the rest.

    `wall`, seconds since 1970, is asked only for a date.
    """
    for read in (_number, _duration):
        seconds = read(text)
        if not math.isnan(seconds):
            return seconds
    for read_date in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return read_date(text).timestamp() - wall()
        except (ValueError, OverflowError):
            continue
    return math.nan


def _number(text: str) -> float:
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def _duration(text: str) -> float:
    """Seconds of a run of numbers with units: 1h2m3s, 120ms, 20 seconds."""
    total_s = 0.0
    end = 0
    for part in _PART.finditer(text):
        if text[end : part.start()].strip(" ,"):
            return math.nan
        amount, unit = part[1] or part[3], (part[2] or part[4]).lower()
        total_s += float(amount) * (_UNIT_S.get(unit) or _spelled_out_s(unit))
        end = part.end()
    return total_s if end and not text[end:].strip(" ,") else math.nan


def _spelled_out_s(unit: str) -> float:
    return _UNIT_S["ms" if unit.startswith("milli") else unit[0]]


def _in_words(message: str) -> float:
    """Seconds of "Please try again in 6m0s." and its like; NaN if nothing of the kind is said."""
    for match in _IN_WORDS.finditer(message):
        words = match[1]
        # The run of words may end in one that is no unit: "in 20 seconds or".
        while words:
            seconds = _duration(words)
            if not math.isnan(seconds):
                return seconds
            words = words.rstrip(" ,").rpartition(" ")[0]
    return math.nan
