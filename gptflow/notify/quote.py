"""Words that someone else wrote, as a message may hold them."""

from __future__ import annotations

import re

_MENTION = re.compile("<(?=/?at)", re.IGNORECASE)

_TOKEN = re.compile(
    r"(?<![\w-])(?:(?:sk|gsk|xai)-|(?:gsk|hf)_|AIza)[\w-]{8,}"
    r"|(?<=Bearer )[\w.~+/-]{8,}|(?<=/hook/)[\w-]+"
)
"""What looks like the key of a provider, or like the end of a hook."""


def quoted(text: str, most: int | None = None) -> str:
    """A text that someone else wrote, cut to `most` characters, in which no mention works.

    `<at user_id="all">` calls everybody in a group, also out of a card that goes on as text.
    """
    text = text if most is None or len(text) <= most else f"{text[:most]}…"
    return _MENTION.sub("< ", text)


def without_tokens(text: str) -> str:
    """A text in which nothing is left that looks like a key: a crash may quote one."""
    return _TOKEN.sub("…", text)
