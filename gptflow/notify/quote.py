"""Words that someone else wrote, as a message may hold them."""

from __future__ import annotations

import re

_MENTION = re.compile("<(?=/?at)", re.IGNORECASE)


def quoted(text: str, most: int | None = None) -> str:
    """A text that someone else wrote, cut to `most` characters, in which no mention works.

    `<at user_id="all">` calls everybody in a group, also out of a card that goes on as text.
    """
    text = text if most is None or len(text) <= most else f"{text[:most]}…"
    return _MENTION.sub("< ", text)
