"""Writes a text that a regular expression is likely to match, for examples of replies.

A best effort: anchors, most look-aheads and the second alternatives are passed over. The caller
tries the text before it uses it.
"""

from __future__ import annotations

import re

import regex

_TOKEN = re.compile(
    r"""(?P<not>\(\?<?!) | (?P<ahead>\(\?=) | (?P<plain>\(\?(?:<=|[a-zA-Z-]*[:>|]))
      | (?P<comment>\(\?\#[^)]*\)) | (?P<flags>\(\?[a-zA-Z0-9-]+\))
      | \(\?P?<(?P<name>\w+)> | \(\?P=(?P<again>\w+)\)
      | (?P<group>\() | (?P<end>\)) | (?P<or>\|) | (?P<anchor>\\[bBAZzGKmM]|[$^])
      | \\(?P<back>[1-9]\d?) | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\]|\\[dDsSwWX]|\\[pP]\{[^}]*\}|\.)
      | (?P<literal>\\?.)""",
    re.VERBOSE | re.DOTALL,
)
_REPEAT = re.compile(r"(?:(?P<sign>[*+?])|\{(?P<least>\d{1,3})(?:,\d*)?\})[?+]?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


class _Walk:
    """One way through a pattern, from left to right."""

    def __init__(self, pattern: str, group: int | str, value: str | None, pick: int) -> None:
        self._pattern = pattern
        self._group = group
        self._value = value
        self._candidates = "abcdefgh"[pick % 8] + "123456789"[pick % 9] + "A _-.,:/@\n#%'\"é中"
        self._position = 0
        self._groups = 0
        self._texts: dict[str, str] = {}

    def branch(self) -> str:
        """The text of the first alternative up to the end of this group, which is consumed."""
        text, chosen = "", None
        while (token := self._next()) is not None and not token["end"]:
            if token["or"]:
                chosen = text if chosen is None else chosen
                text = ""
            else:
                text += self._repeated(self._atom(token))
        return text if chosen is None else chosen

    def _next(self) -> re.Match[str] | None:
        token = _TOKEN.match(self._pattern, self._position)
        if token is not None:
            self._position = token.end()
        return token

    def _repeated(self, text: str) -> str:
        repeat = _REPEAT.match(self._pattern, self._position)
        if repeat is None:
            return text
        self._position = repeat.end()
        return text * (1 if repeat["sign"] else int(repeat["least"]))

    def _atom(self, token: re.Match[str]) -> str:
        if token["not"] or token["ahead"]:
            text = self.branch()
            return text if token["ahead"] and self._position == len(self._pattern) else ""
        if token["plain"]:
            return self.branch()
        if token["group"] or token["name"]:
            return self._capture(token["name"])
        if token["again"] or token["back"]:
            return self._texts.get(token["again"] or token["back"], "")
        if token["set"]:
            return next((c for c in self._candidates if regex.fullmatch(token["set"], c)), "")
        literal = token["literal"] or ""
        return _ESCAPES.get(literal[1:], literal[1:]) if literal[:1] == "\\" else literal

    def _capture(self, name: str | None) -> str:
        self._groups += 1
        number = self._groups
        text = self.branch()
        if self._value is not None and self._group in (number, name):
            text = self._value
        self._texts[str(number)] = self._texts[name or str(number)] = text
        return text


def matching_text(
    pattern: str, group: int | str = 0, value: str | None = None, pick: int = 0
) -> str:
    """A text that the pattern may match, with `value` for the group; another for another pick."""
    text = _Walk(pattern, group, value, pick).branch()
    return value if group == 0 and value is not None else text
