"""Numbers that a float cannot hold: they go out as they came, and so must be told apart."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from string import digits
from typing import Any

import msgspec

from gptflow.records import Columns

_INEXACT = frozenset((dict, list, float))
_DIGITS = 16
"""From so many digits on two numbers may be one float: 9007199254740993.0 is ...992.0. Of up to 15
every number has a float of its own (IEEE 754, sys.float_info.dig)."""
_ROUGH = bytes.maketrans(b"123456789.E+", b"0000000000e-")
_LONG = b"0" * _DIGITS
"""It is in a row, with all digits and points made 0, where a number in it has so many digits. To be
rid of most rows fast."""
_HUGE = (b"e000", b"e-000")
"""The same for an exponent that no float may have."""
_SMALL, _LARGE = 1e-80, 1e80
"""Between these a number has an exponent of fewer digits, or 16 digits before it."""
_huge_number = re.compile(rb"[0-9][eE][-+]?[0-9]{3}")
_NUMBERS = bytes(at if chr(at) in f"{digits}.eE+-" else ord(" ") for at in range(256))

_encode = msgspec.json.Encoder().encode


def exact(raw: bytes, columns: Columns) -> Columns:
    """The columns of the row in `raw`; what a float cannot hold stands there as text.

    Two rows that differ in the twentieth digit are two rows, though templates see them as one.
    """
    if _INEXACT.isdisjoint(map(type, columns.values())):
        return columns
    inexact = [value for value in columns.values() if type(value) in _INEXACT]
    floats = _floats(inexact)
    if not floats:
        return columns
    rough = raw.translate(_ROUGH)
    is_huge = _may_be_huge(floats) and any(huge in rough for huge in _HUGE)
    if not (is_huge and _huge_number.search(raw)) and (
        _LONG not in rough or _written(columns) == raw or _are_floats(raw, inexact)
    ):
        return columns
    found: Columns = _decoder.decode(raw.decode())
    return found


def _floats(values: list[Any]) -> list[float]:
    """All floats among the values, and in the lists and objects among them."""
    found: list[float] = []
    while values:
        inner: list[Any] = []
        for value in values:
            if type(value) is float:
                found.append(value)
                continue
            items = value if type(value) is list else value.values()
            if not _INEXACT.isdisjoint(map(type, items)):
                inner += [item for item in items if type(item) in _INEXACT]
        values = inner
    return found


def _may_be_huge(floats: list[float]) -> bool:
    """Whether one of them may have been written with an exponent of three digits.

    There are fewer than 16 others in such a number: it is far from 1, or nothing at all is left.
    """
    return min(map(abs, floats)) <= _SMALL or max(map(abs, floats)) >= _LARGE


def _are_floats(raw: bytes, inexact: list[object]) -> bool:
    """Whether all numbers of a row are floats, written out as long as these need.

    Most that have so many digits are: programs write floats with 16 or 17.
    """
    long = {number for number in raw.translate(_NUMBERS).split() if len(number) >= _DIGITS}
    written = _written(inexact)
    if b'"' not in written:  # there a text could pass for a number
        long.difference_update(written[1:-1].translate(_NUMBERS).split())
    return all(map(_is_float, long))


def _written(value: Any) -> bytes:
    """The value as JSON, if that can be told fast: its floats are as long as they need be."""
    try:
        return _encode(value)
    except (OverflowError, UnicodeEncodeError):  # beyond 64 bits; half a surrogate pair
        return b""


def _is_float(number: bytes) -> bool:
    """Whether a float holds this, if it is a number with a point or an exponent at all."""
    text = number.decode()
    if text.lstrip("-").isdigit():
        return True
    try:
        return type(_exactly(text)) is float
    except ValueError:  # out of a text
        return True


def _exactly(text: str) -> float | str:
    value = float(text)
    if len(text) < _DIGITS and "e" not in text and "E" not in text:
        return value
    written = repr(value)
    try:
        is_exact = written == text or Decimal(text) == Decimal(written)
    except InvalidOperation:  # an exponent of twenty digits
        is_exact = False
    # NUL: no text of a row is likely to be the same.
    return value if is_exact else f"\0{text}"


_decoder = json.JSONDecoder(parse_float=_exactly)
