"""What an unquoted scalar means: the YAML 1.2 core schema.

One thing is stricter: a number with leading zeros stays the text it looks like.
"""

from __future__ import annotations

import re

from gptflow.spec.node import ScalarValue

_WORDS: dict[str, ScalarValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_MAX_DIGITS = 4000
"""Python refuses to convert much longer ones: they stay text."""
_BASE = {"0o": 8, "0x": 16}
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)")


def resolve_plain(text: str) -> ScalarValue:
    """The value of an unquoted scalar.

    >>> [resolve_plain(text) for text in ("no", "010", "12:30", "2024-05-01", "1e3", "~")]
    ['no', '010', '12:30', '2024-05-01', 1000.0, None]
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) <= _MAX_DIGITS else text
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text[2:], _BASE[text[:2]])
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return text
