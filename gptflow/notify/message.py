"""The bodies that a Lark hook takes, cut to the size that it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Color = Literal["blue", "green", "orange", "red", "grey"]
COLORS: tuple[Color, ...] = get_args(Color)
Body = dict[str, Any]

MOST_BYTES = 20_000
"""Lark takes 20 KB of UTF-8; the signature's 100 bytes must fit in as well."""
MOST_TITLE = 200
CUT_MARK = "\n… (cut: Lark takes 20 KB)"


@dataclass(frozen=True, slots=True)
class Message:
    """What is said, before it has the form of a hook's body."""

    text: str
    title: str = ""
    kind: Literal["text", "post", "interactive"] = "text"
    color: Color = "blue"
    markdown: bool = False

    @property
    def plain(self) -> Message:
        """The same as a text message."""
        return Message(f"{self.title}\n{self.text}" if self.title else self.text)

    def with_keyword(self, keyword: str) -> Message:
        """The message with `keyword` at its beginning, if there is one and it is not there yet."""
        head = self.title or self.text
        if not keyword or keyword in head[:MOST_TITLE]:
            return self
        head = f"[{keyword}] {head}"
        text, title = (self.text, head) if self.title else (head, "")
        return Message(text, title, self.kind, self.color, self.markdown)

    def body(self) -> Body:
        """The JSON object of the message, of at most MOST_BYTES bytes; a longer text is cut."""
        text = _writable(self.text[:MOST_BYTES])
        title = _writable(self.title[:MOST_TITLE])
        build = _BUILDERS[self.kind]
        if len(self.text) <= MOST_BYTES and _fits(body := build(self, title, text)):
            return body
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if _fits(build(self, title, text[:middle] + CUT_MARK)):
                low = middle
            else:
                high = middle - 1
        return build(self, title, text[:low] + CUT_MARK)


def encoded(body: Body) -> bytes:
    """A body as it goes over the wire."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _fits(body: Body) -> bool:
    return len(encoded(body)) <= MOST_BYTES - 200


def _writable(text: str) -> str:
    """Text without lone surrogates, which no UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _text(_: Message, __: str, text: str) -> Body:
    return {"msg_type": "text", "content": {"text": text}}


def _post(_: Message, title: str, text: str) -> Body:
    paragraphs = [[{"tag": "text", "text": line}] for line in text.split("\n")]
    return {
        "msg_type": "post",
        "content": {"post": {"en_us": {"title": title, "content": paragraphs}}},
    }


def _card(message: Message, title: str, text: str) -> Body:
    tag = "lark_md" if message.markdown else "plain_text"
    return {
        "msg_type": "interactive",
        "card": {
            "header": {
                "title": {"tag": "plain_text", "content": title},
                "template": message.color,
            },
            "elements": [{"tag": "div", "text": {"tag": tag, "content": text}}],
        },
    }


_BUILDERS: dict[str, Callable[[Message, str, str], Body]] = {
    "text": _text,
    "post": _post,
    "interactive": _card,
}
