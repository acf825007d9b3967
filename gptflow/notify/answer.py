"""What Lark's answers mean. A refused message comes back with status 200 and a code in its body.

The codes are those of https://open.larksuite.com/document/client-docs/bot-v3/add-custom-bot
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptflow.errors import LarkError
from gptflow.notify.quote import quoted

TOO_FREQUENT = 11232
_MOST_WORDS = 200
_FORM_REFUSED = frozenset({9499, 11310})


@dataclass(frozen=True, slots=True)
class _Meaning:
    words: str
    hint: str | None = None
    is_final: bool = False


_MEANINGS = {
    9499: _Meaning("it does not accept the form or size of the message", "send a shorter text"),
    TOO_FREQUENT: _Meaning(
        "too many messages for this bot", "it takes 5 a second and 100 a minute, from all senders"
    ),
    11310: _Meaning("the card has too many tables", "send the tables as text"),
    19001: _Meaning(
        "there is no bot behind this hook",
        "copy the URL again from the group's settings, Bots; a deleted bot's URL stays dead",
        is_final=True,
    ),
    19002: _Meaning("it does not accept the form of the message"),
    19007: _Meaning("the bot is not enabled", "enable it in the group's settings", is_final=True),
    19021: _Meaning(
        "the signature does not match",
        "check the secret (LARK_SECRET), and this machine's clock: an hour off is too much",
        is_final=True,
    ),
    19022: _Meaning(
        "this machine's IP address is not allowed",
        "add it to the bot's IP allowlist in the group's settings",
        is_final=True,
    ),
    19024: _Meaning(
        "the bot wants a keyword, and the message has none",
        "name one of the bot's keywords: LarkBot(keyword=...), or notify.lark.keyword in the spec",
        is_final=True,
    ),
    19036: _Meaning("the message is too long", "send a shorter one"),
}


def refusal(status: int, content: bytes, hidden: Sequence[str] = ()) -> LarkError | None:
    """Why Lark did not take a message; None if it did.

    The error holds nothing of the answer, but for Lark's own words on a code that is unknown here:
    a line without a mention and without the texts in `hidden`.
    """
    answer = _answer(content)
    code = _code(answer)
    if code == 0 and status == 200:
        return None
    if code:
        meaning = _MEANINGS.get(code) or _Meaning(_unknown(answer, hidden))
        return LarkError(
            f"Lark refused a message: code {code}, {meaning.words}",
            hint=meaning.hint,
            code=code,
            is_final=meaning.is_final,
        )
    if 300 <= status < 400:
        return LarkError(
            f"the Lark hook redirects (status {status}), which is not followed",
            hint="use the URL as the group's settings show it",
        )
    if status != 200:
        return LarkError(f"Lark answered with status {status}")
    return LarkError(
        "the answer of the hook is not one of Lark's",
        hint="check the URL, and what stands between: a proxy or a login page answers like this",
    )


def is_form_refused(error: LarkError) -> bool:
    """Whether the same words may go through as plain text."""
    return error.code in _FORM_REFUSED


def _answer(content: bytes) -> dict[str, Any]:
    """The object of an answer; an empty one where it is none."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _unknown(answer: dict[str, Any], hidden: Sequence[str]) -> str:
    """What Lark says of a code that is not among ours."""
    told = answer.get("msg", answer.get("StatusMessage"))
    words = " ".join(told.split()) if isinstance(told, str) else ""
    for text in filter(None, hidden):
        words = words.replace(text, "…")
    shown = "".join(sign for sign in words if sign.isprintable())
    told = f": {quoted(shown, _MOST_WORDS)}" if shown else ""
    return f"a code that is not documented{told}"


def _code(answer: dict[str, Any]) -> int | None:
    """The code of an answer; None where it is no answer of Lark's. Old hooks say StatusCode."""
    code = answer.get("code", answer.get("StatusCode"))
    return code if isinstance(code, int) and not isinstance(code, bool) else None
