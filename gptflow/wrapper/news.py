"""What an engine tells of its keys, in words for the people who can do something about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gptflow.engine.events import (
    ConfigBroken,
    Event,
    KeyExhausted,
    KeyRetired,
    KeysBack,
    KeysSpent,
    OutageBegan,
    OutageEnded,
)

_MINUTE_S, _HOUR_S = 60, 3600


def news_of(event: Event) -> str | None:
    """What to say of an event; None where nobody needs to hear of it."""
    say = _WORDS.get(type(event))
    return say(event) if say else None


def _spent(event: KeysSpent) -> str:
    so_far = f" It has been {_span(event.waited_s)}." if event.waited_s else ""
    return f"{event.message}\nAll calls wait.{so_far}\nHint: {event.hint}"


def _span(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h"


_WORDS: dict[type, Callable[[Any], str]] = {
    KeyExhausted: lambda e: f"{e.key_name} has no money or quota left: {e.message}",
    KeyRetired: lambda e: f"{e.key_name} is not valid: {e.message}",
    KeysSpent: _spent,
    KeysBack: lambda e: f"there is a usable key again: calls go on after {_span(e.waited_s)}",
    ConfigBroken: lambda e: f"the configuration has changed, but cannot be used:\n{e.message}",
    OutageBegan: lambda e: f"no server answers: {e.message}\nAll calls wait.",
    OutageEnded: lambda e: f"a server answers again: calls go on after {_span(e.held_s)}",
}
