"""Which of an engine's news a wrapper logs, and tells Lark."""

from __future__ import annotations

from gptflow.engine import news
from gptflow.engine.events import Event, KeyRested, KeysChanged


def news_of(event: Event) -> str | None:
    """What to tell of an event; None where nobody can, or need, do something about it."""
    if isinstance(event, KeyRested | KeysChanged):  # a warning for each would be a storm
        return None
    return news.news_of(event)
