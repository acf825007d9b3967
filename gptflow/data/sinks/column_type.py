"""What type holds all values of a column, told from their JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from itertools import chain
from math import copysign
from typing import Any, NamedTuple

import msgspec

from gptflow.data.exact_number import exact
from gptflow.data.json_text import decode_string, encoded

NULL = b"null"
JSON = "json"
"""The type of a column that no other holds: each value is its JSON text."""

_EXACT_INT = 1 << 53
"""Up to here every integer is a float, too."""
_LEAST, _LARGEST = -(1 << 63), (1 << 63) - 1

_decode = msgspec.json.Decoder().decode


class Kinds(IntFlag):
    """What kinds of values a column has, apart from null; those in lists apart from others."""

    TEXT = 1
    BOOL = 2
    INT = 4
    LARGE_INT = 8
    """A float does not hold it, 64 bits do."""
    FLOAT = 16
    LIST = 32
    OTHER = 64
    """Objects, lists in lists, numbers with more digits: what only JSON holds."""

    TEXTS = TEXT << 8
    BOOLS = BOOL << 8
    INTS = INT << 8
    LARGE_INTS = LARGE_INT << 8
    FLOATS = FLOAT << 8


_TYPES = {
    Kinds(0): "string",
    Kinds.TEXT: "string",
    Kinds.BOOL: "bool",
    Kinds.INT: "int64",
    Kinds.LARGE_INT: "int64",
    Kinds.INT | Kinds.LARGE_INT: "int64",
    Kinds.FLOAT: "double",
    Kinds.INT | Kinds.FLOAT: "double",
}
_TYPES |= {Kinds.LIST | kinds << 8: f"list<{name}>" for kinds, name in _TYPES.items()}


def type_of(kinds: Kinds) -> str:
    """The narrowest type that holds all of these: one of Arrow's by its name, a list of it, JSON.

    It is the same after more of the same kinds, and only grows with others: integers become
    doubles, anything becomes JSON, nothing comes back.
    """
    return _TYPES.get(kinds, JSON)


class Values(NamedTuple):
    """Some values of a column."""

    kinds: Kinds
    texts: Sequence[bytes]
    """Each as its JSON text."""
    decoded: list[Any]
    """The same, as Python has them."""

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Values:
        """Reads the values in `texts`, which are valid JSON."""
        joined = b"[%s]" % b",".join(texts)
        try:
            values = _decode(joined)
        except (msgspec.DecodeError, RecursionError):
            values = list(map(_value, texts))
        kinds = _kinds(values, chain.from_iterable(v for v in values if type(v) is list))
        if kinds & (Kinds.FLOAT | Kinds.FLOATS) and not _are_exact(joined, values):
            kinds |= Kinds.OTHER
        return cls(kinds, texts, values)

    def as_json(self) -> list[str | None]:
        """Their texts; null as None.

        What a narrower type holds is written as `json_of` does: an earlier value of the column may
        have been in one.
        """
        return [_json(*pair) for pair in zip(self.texts, self.decoded, strict=True)]


def json_of(value: Any) -> str:
    """A value that another type than JSON holds, as JSON: the same, whichever type has held it."""
    items = list(map(_shortest, value)) if type(value) is list else _shortest(value)
    return encoded(items).decode()


def _json(text: bytes, value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is dict or type_of(Values.of([text]).kinds) == JSON:
        return text.decode()
    return json_of(value)


def _shortest(value: Any) -> Any:
    """An integer for a double that is one: a column of doubles holds both alike."""
    is_whole = type(value) is float and value.is_integer() and abs(value) <= _EXACT_INT
    return int(value) if is_whole and (value or copysign(1, value) > 0) else value


def _value(text: bytes) -> Any:
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        if text.startswith(b'"'):  # half of a surrogate pair: as in CSV it stays its escape
            return decode_string(text).encode(errors="backslashreplace").decode()
        return {}  # an object is held by JSON alone, and so is this


def _kinds(values: Sequence[Any], items: chain[Any] | None = None) -> Kinds:
    kinds = Kinds(0)
    for type_ in set(map(type, values)) - {type(None)}:
        if type_ is int:
            kinds |= _kind_of_ints([value for value in values if type(value) is int])
        elif type_ is list and items is not None:
            of_items = _kinds(list(items))
            kinds |= Kinds.LIST | (Kinds.OTHER if of_items & Kinds.OTHER else of_items << 8)
        else:
            kinds |= _SIMPLE.get(type_, Kinds.OTHER)
    return kinds


_SIMPLE = {str: Kinds.TEXT, bool: Kinds.BOOL, float: Kinds.FLOAT}


def _kind_of_ints(values: list[int]) -> Kinds:
    least, largest = min(values), max(values)
    if least < _LEAST or largest > _LARGEST:
        return Kinds.OTHER
    return Kinds.INT if max(-least, largest) <= _EXACT_INT else Kinds.LARGE_INT


def _are_exact(joined: bytes, values: list[Any]) -> bool:
    """Whether floats hold all numbers with a point or an exponent."""
    found = exact(b'{"":%s}' % joined, {"": values})[""]
    return found is values or found == values
