"""Text for a terminal: what others wrote must not command it.

A row, a reply, a spec or a file's name may hold the sequences by which programs move the cursor,
set the clipboard or turn the direction of writing.
"""

from __future__ import annotations

import re
import unicodedata

_NOT_DRAWN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, lone surrogates and separators of lines."""
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HARMLESS = re.compile(r"[\n\t\x20-\x7e]*")


def is_showable(char: str) -> bool:
    """Whether a terminal does no more with a character than draw it, or begin a line or column."""
    if char in "\t\n":
        return True
    return unicodedata.category(char) not in _NOT_DRAWN and char not in _DIRECTIONS


def showable(text: str) -> str:
    """The text with a mark in place of each character that is not to reach a terminal."""
    if _HARMLESS.fullmatch(text):
        return text
    return "".join(char if is_showable(char) else "\N{REPLACEMENT CHARACTER}" for char in text)


def showable_json(text: str) -> str:
    r"""JSON with those characters as \u escapes, which mean the same to a program."""
    if _HARMLESS.fullmatch(text):
        return text
    return "".join(char if is_showable(char) else f"\\u{ord(char):04x}" for char in text)
