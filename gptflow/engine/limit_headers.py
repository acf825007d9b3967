"""Reads what servers say about the limits of an account: its size, what is left, when it is full.

OpenAI and most others (x-ratelimit-limit-requests ...), Anthropic (anthropic-ratelimit-...), and
the plain x-ratelimit-limit and ratelimit-limit of gateways. The reset of all of them is the time
until the allowance is whole again, not until the next request may go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec

from gptflow.engine.limits import header, moment_s, server_wall

REQUESTS, TOKENS = "requests", "tokens"

_MOST_SILENT = 64
_MANY = 200
_OFTEN_ENOUGH_S = 0.004
"""Answers that follow each other faster tell the same, after so many."""
_EPOCH_S = 1e8
"""A reset above this is a date: seconds, or milliseconds, since 1970."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """One limit, as a response tells it."""

    unit: str
    """requests, tokens, or a kind of tokens."""
    limit: float | None
    """Units a minute; None if it is not told."""
    remaining: float
    reset_s: float | None
    """Seconds until all of it is there again; None if it is not told."""


_Names = tuple[str, str, str, str]

_UNITS = (REQUESTS, TOKENS)
_KINDS = ("input-tokens", "output-tokens")


def _names(unit: str, pattern: str) -> _Names:
    """The headers of a unit, where `{}` is what they tell."""
    return unit, pattern.format("limit"), pattern.format("remaining"), pattern.format("reset")


_OPENAI = tuple(_names(unit, f"x-ratelimit-{{}}-{unit}") for unit in _UNITS)
_ANTHROPIC = tuple(_names(unit, f"anthropic-ratelimit-{unit}-{{}}") for unit in (*_UNITS, *_KINDS))
_PLAIN = tuple(_names(REQUESTS, f"{prefix}-{{}}") for prefix in ("x-ratelimit", "ratelimit"))
_ALL = (*_OPENAI, *_ANTHROPIC, *_PLAIN)


class LimitReader:
    """Reads the headers of one account. It learns which of the names its server uses.

    Looking costs more than all else that the pool does for a call. So a server that tells nothing
    is looked at ever less often, up to once in 64 answers, and one that does not at each of many
    answers that come together.
    """

    def __init__(self) -> None:
        self._names: tuple[_Names, ...] = _ALL
        self._skip = 0
        self._silent = 0
        self._reads = 0
        self._next_at = -math.inf

    def read(
        self,
        headers: Mapping[str, str],
        now: float,
        wall: Callable[[], float],
        *,
        surely: bool = False,
    ) -> list[Told]:
        """All limits that a response tells; none, if it is time to skip one.

        Args:
            headers: of the response.
            now: seconds.
            wall: seconds since 1970; is asked only where the server names dates.
            surely: look also where the last answers told nothing.
        """
        if not surely:
            if now < self._next_at:
                return []
            if self._skip:
                self._skip -= 1
                return []
        told = [one for names in self._names if (one := _told(headers, names, wall))]
        if len(told) < len(self._names) and self._names is not _ALL:
            self._names = _ALL
        elif told and self._names is _ALL:
            units = {one.unit for one in told}
            self._names = tuple(n for n in _ALL if n[0] in units and header(headers, n[2]))
        if told:
            self._silent = 0
            self._reads += 1
            if self._reads > _MANY:
                self._next_at = now + _OFTEN_ENOUGH_S
        else:
            self._silent = min(2 * self._silent + 1, _MOST_SILENT)
            self._skip = self._silent - 1
        return told


def _told(headers: Mapping[str, str], names: _Names, wall: Callable[[], float]) -> Told | None:
    unit, limit_name, remaining_name, reset_name = names
    remaining = _amount(header(headers, remaining_name))
    if remaining is None:
        return None
    limit = _amount(header(headers, limit_name))
    reset = header(headers, reset_name)
    reset_s = _reset_s(reset, server_wall(headers, wall)) if reset else None
    return Told(unit, limit or None, remaining, reset_s)


def _amount(text: str | None) -> float | None:
    """A count; "100, 100;w=60" is 100. None for what is none, or is below 0 (Azure's -1)."""
    if not text:
        return None
    if not text.isdigit():
        text = text.partition(",")[0].partition(";")[0].strip()
    try:
        amount = float(text)
    except ValueError:
        return None
    return amount if 0 <= amount < math.inf else None


def _reset_s(text: str, wall: Callable[[], float]) -> float | None:
    seconds = moment_s(text, wall)
    if seconds > _EPOCH_S:
        seconds = (seconds / 1000 if seconds > 1000 * _EPOCH_S else seconds) - wall()
    return seconds if 0 <= seconds < math.inf else None
