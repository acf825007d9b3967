"""The values of Arrow's arrays as JSON has them: numbers exact, times as in ISO 8601."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from gptflow.data.arrow import load_arrow
from gptflow.data.json_text import one_line, parse_object
from gptflow.data.sources.arrow_type import ArrowTypes, twice
from gptflow.errors import DataError

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a zone's letter is added where the data has one)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MS_A_DAY = 86_400_000

Values = Callable[[Any], list[Any]]


class ArrowValues:
    """Turns arrays into lists of what msgspec writes as JSON, nulls as None.

    What only text can hold (a decimal's digits, JSON, NaN, which JSON has not) is a
    `msgspec.Raw` among them.
    """

    def __init__(self) -> None:
        self.has_raw = False
        """Whether any value so far has a Raw in it: its row says more once it is decoded."""
        self._arrow = load_arrow()
        types, told = self._arrow.types, ArrowTypes()
        self._kinds: list[tuple[Callable[[Any], bool], Values]] = [
            (types.is_integer, _plain),
            (types.is_boolean, _plain),
            (types.is_null, _plain),
            (types.is_floating, self._floats),
            (told.is_text, self._texts),
            (types.is_timestamp, self._timestamps),
            (types.is_date32, lambda array: self._mapped(array, _day)),
            (types.is_date64, lambda array: self._mapped(array, lambda ms: _day(ms // _MS_A_DAY))),
            (types.is_time, lambda array: self._mapped(array, _of_day(array.type.unit))),
            (types.is_duration, lambda array: self._mapped(array, _length(array.type.unit))),
            (types.is_decimal, self._decimals),
            (types.is_dictionary, lambda array: self.of(array.dictionary_decode())),
            (types.is_struct, self._structs),
            (types.is_map, self._maps),
            (told.is_list, self._lists),
        ]

    def of(self, array: Any) -> list[Any]:
        """The values of an array, of which a row can hold all by its type.

        Raises:
            OverflowError: a date is before the year 1 or after 9999.
            DataError: text that is said to be JSON is none.
        """
        kind = array.type
        if isinstance(kind, self._arrow.BaseExtensionType):
            return self._extended(array)
        return next(convert for is_kind, convert in self._kinds if is_kind(kind))(array)

    def _extended(self, array: Any) -> list[Any]:
        match array.type.extension_name:
            case "arrow.json":
                return [None if text is None else self._json(text) for text in array.to_pylist()]
            case "arrow.uuid":
                return [None if value is None else str(value) for value in array.to_pylist()]
            case "arrow.bool8":
                values = array.storage.to_pylist()
                return [None if value is None else value != 0 for value in values]
        return self.of(array.storage)

    def _json(self, text: str) -> msgspec.Raw:
        # In an object of its own, so that `1, "b": 2` does not pass for two members of the row.
        value = text.encode()
        try:
            members = parse_object(b'{"":' + value + b"}", ("", 0))
        except DataError:
            members = {}
        if len(members) != 1:
            raise DataError("text that is not JSON, though its type says so")
        return self._raw(one_line(value))

    def _floats(self, array: Any) -> list[Any]:
        compute = self._arrow.compute
        values: list[Any] = array.to_pylist()
        if compute.all(compute.is_finite(array)).as_py() is False:
            for at, is_finite in enumerate(compute.is_finite(array).to_pylist()):
                if is_finite is False:
                    values[at] = self._raw(_CONSTANTS[str(values[at])])
        return values

    def _texts(self, array: Any) -> list[Any]:
        try:
            return _plain(array)
        except UnicodeDecodeError:
            return [
                self._text(value) for value in array.cast(self._arrow.large_binary()).to_pylist()
            ]

    def _text(self, value: bytes | None) -> Any:
        if value is None:
            return None
        try:
            return value.decode()
        except UnicodeDecodeError:  # decoding the row says it, with its place
            return self._raw(b'"' + value + b'"')

    def _decimals(self, array: Any) -> list[Any]:
        return [
            None if value is None else self._raw(f"{value:f}".encode())
            for value in array.to_pylist()
        ]

    def _raw(self, text: bytes) -> msgspec.Raw:
        self.has_raw = True
        return msgspec.Raw(text)

    def _timestamps(self, array: Any) -> list[Any]:
        zone = "" if array.type.tz is None else "Z"
        moment = _moment(array.type.unit)
        return self._mapped(array, lambda value: moment(value) + zone)

    def _mapped(self, array: Any, text_of: Callable[[int], str]) -> list[Any]:
        """Of an array of times: its numbers, each as text."""
        arrow = self._arrow
        whole = arrow.int32() if array.type.bit_width == 32 else arrow.int64()
        numbers = array.cast(whole).to_pylist()
        return [None if number is None else text_of(number) for number in numbers]

    def _structs(self, array: Any) -> list[Any]:
        names = array.type.names
        members = [self.of(child) for child in array.flatten()]
        rows = zip(*members, strict=True) if members else iter([()] * len(array))
        return [
            dict(zip(names, row, strict=True)) if is_valid else None
            for row, is_valid in zip(rows, array.is_valid().to_pylist(), strict=True)
        ]

    def _lists(self, array: Any) -> list[Any]:
        lengths = self._arrow.compute.list_value_length(array).to_pylist()
        items = iter(self.of(array.flatten()))
        return [None if length is None else list(islice(items, length)) for length in lengths]

    def _maps(self, array: Any) -> list[Any]:
        arrow, kind = self._arrow, array.type
        pair = arrow.struct([("name", kind.key_type), ("value", kind.item_type)])
        maps = self.of(array.cast(arrow.list_(pair)))
        return [None if pairs is None else _object(pairs) for pairs in maps]


_CONSTANTS = {"nan": b"NaN", "inf": b"Infinity", "-inf": b"-Infinity"}
"""What JSON has no number for, as Python writes it: decoding the row says so, with its place."""


def _plain(array: Any) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return values


def _object(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    if not all(type(pair["name"]) is str for pair in pairs):
        raise DataError("a map with a key that is not UTF-8")
    found = {pair["name"]: pair["value"] for pair in pairs}
    if len(found) != len(pairs):
        raise DataError(twice([pair["name"] for pair in pairs]) or "")
    return found


def _day(days: int) -> str:
    try:
        return date.fromordinal(_EPOCH_DAY + days).isoformat()
    except ValueError as error:
        raise OverflowError from error


def _moment(unit: str) -> Callable[[int], str]:
    per_s = _PER_SECOND[unit]

    def text_of(value: int) -> str:
        seconds, rest = divmod(value, per_s)
        return (_EPOCH + timedelta(seconds=seconds)).isoformat() + _fraction(rest, unit)

    return text_of


def _of_day(unit: str) -> Callable[[int], str]:
    moment = _moment(unit)
    return lambda value: moment(value).partition("T")[2]


def _length(unit: str) -> Callable[[int], str]:
    def text_of(value: int) -> str:
        seconds, rest = divmod(abs(value), _PER_SECOND[unit])
        return f"{'-' if value < 0 else ''}PT{seconds}{_fraction(rest, unit)}S"

    return text_of


def _fraction(rest: int, unit: str) -> str:
    """The part of a second behind its point: 3, 6 or 9 digits, as few as hold it."""
    if not rest:
        return ""
    digits = f"{rest:0{len(str(_PER_SECOND[unit])) - 1}d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f".{digits}"
