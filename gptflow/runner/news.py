"""What the screen of a run tells at once: the engine's news, but for what it shows anyway."""

from __future__ import annotations

from gptflow.engine.events import KeysSpent
from gptflow.engine.news import news_of
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent


def news(event: RunEvent) -> str | None:
    """What to tell of an event; None where it is no news."""
    match event:
        case CallAnswered() | RowEnded():
            return None  # they are counted
        case KeysSpent() if event.waited_s:
            return None  # the figures stand still, which shows that it goes on
    return news_of(event)
