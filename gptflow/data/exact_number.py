"""Numbers that a float cannot hold: they go out as they came, and so must be told apart."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation

from gptflow.records import Columns

_INEXACT = frozenset((dict, list, float))
_ROUGH = bytes.maketrans(b"123456789.E+", b"0000000000e-")
_FINE = (b"0" * 19, b"e000", b"e-000")
"""One of these is in a row, with all digits made 0, where a number in it may have more than the 17
digits that a float needs at most, or an exponent that no float has. To be rid of most rows fast."""
_fine_number = re.compile(rb"[1-9][0-9.]{18}|[eE][-+]?[0-9]{3}")
"""The same, exactly."""


def exact(raw: bytes, columns: Columns) -> Columns:
    """The columns of the row in `raw`; what a float cannot hold stands there as text.

    Two rows that differ in the twentieth digit are two rows, though templates see them as one.
    """
    if _INEXACT.isdisjoint(map(type, columns.values())):
        return columns
    digits = raw.translate(_ROUGH)
    if not any(fine in digits for fine in _FINE) or not _fine_number.search(raw):
        return columns
    found: Columns = _decoder.decode(raw.decode())
    return found


def _exactly(text: str) -> float | str:
    value = float(text)
    try:
        is_exact = Decimal(text) == Decimal(repr(value))
    except InvalidOperation:  # an exponent of twenty digits
        is_exact = False
    # NUL: no text of a row is likely to be the same.
    return value if is_exact else f"\0{text}"


_decoder = json.JSONDecoder(parse_float=_exactly)
