"""Turns a value of a reply into what the extractor's `type` and `one_of` ask for.

| type  | from text                                   | from a JSON value                     |
|-------|---------------------------------------------|---------------------------------------|
| str   | as it is                                    | numbers and booleans as JSON has them |
| int   | 12, -3, +4, 1,234, 3.0                      | numbers without a fraction            |
| float | those, 3.5, .5, 1e-3                        | numbers                               |
| bool  | true, yes, 1; false, no, 0                  | booleans, 1 and 0                     |
| list  | a JSON array                                | arrays                                |
| dict  | a JSON object                               | objects                               |

Text may have white space around it, and for bool any case and punctuation. Everything else is
invalid: nothing is rounded, no unit is cut off ("4 stars"), no true is 1, no list is shown as
text. A JSON null is kept as it is without `type` and `one_of`, and invalid with either.

`one_of` is matched first, so that `type` applies to the label as the spec writes it; for a list
each of its elements must be one of the labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from gptflow.pipeline.extract.invalid import BadExtractor, Invalid, shown
from gptflow.pipeline.extract.label import LabelSet, normalised
from gptflow.spec.extractor import FieldType

_INT = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,1000})(?:\.0*)?")
_FLOAT = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{0,1000})(?:\.\d{0,1000})?(?:[eE][+-]?\d{1,3})?")
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_decode = msgspec.json.Decoder().decode


def _to_str(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return value if isinstance(value, str) else None


def _to_int(value: object) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0].replace(",", "")) if _INT.fullmatch(text) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _to_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not _FLOAT.fullmatch(value):
            return None
        value = value.replace(",", "")
    try:
        number = float(value)
    except (ValueError, OverflowError):  # a lone sign or dot; an int beyond any float
        return None
    return number if math.isfinite(number) else None


def _to_bool(value: object) -> bool | None:
    if isinstance(value, str):
        return _BOOLS.get(normalised(value))
    if isinstance(value, bool):
        return value
    return bool(value) if isinstance(value, (int, float)) and value in (0, 1) else None


def _to_container(kind: type) -> Callable[[object], Any]:
    def convert(value: object) -> object:
        if isinstance(value, str):
            try:
                value = _decode(value)
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                return None
        return value if isinstance(value, kind) else None

    return convert


_CONVERSIONS: dict[FieldType, Callable[[object], Any]] = {
    "str": _to_str,
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "list": _to_container(list),
    "dict": _to_container(dict),
}
_A_TYPE: dict[FieldType, str] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "an object",
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What the values of one field must become.

    `each`: the value is a list, and its elements must become that. The type `list` is then met.
    """

    name: str
    """The field's, for messages."""
    type: FieldType | None = None
    labels: LabelSet | None = None
    each: bool = False

    def __post_init__(self) -> None:
        for index, label in enumerate(self.labels.labels if self.labels else ()):
            if self.type not in (None, "list") and _CONVERSIONS[self.type](label) is None:
                message = f"the label {label!r} cannot be of the type {self.type}"
                raise BadExtractor(
                    message, "type" if self.type == "dict" else "one_of", path=(index,)
                )

    def __call__(self, value: Any) -> Any:
        """The value as its field has it. Raises Invalid if it cannot be that."""
        if self.type is None and self.labels is None:
            return value
        if self.each and self.type != "list" and isinstance(value, list):
            return [self._one(element) for element in value]
        return self._one(value)

    def wants(self) -> str:
        """What is valid, in words; empty if everything is."""
        words = f"one of {self.labels}" if self.labels else _A_TYPE[self.type] if self.type else ""
        return f"{words} each" if words and self.each and self.type != "list" else words

    def _one(self, value: Any) -> Any:
        if self.labels is None:
            return self._typed(value)
        if self.type == "list":
            value = self._typed(value)
        if isinstance(value, list):
            return [self._label(element) for element in value]
        return self._typed(self._label(value))

    def _label(self, value: Any) -> str:
        text = _to_str(value)
        if text is None or self.labels is None:
            raise Invalid(f"{self.name} is {_kind(value)}, expected {self.wants()}")
        return self.labels.match(self.name, text)

    def _typed(self, value: Any) -> Any:
        if self.type is None:
            return value
        converted = _CONVERSIONS[self.type](value)
        if converted is None:
            raise Invalid(f"{self.name} is {_kind(value)}, expected {_A_TYPE[self.type]}")
        return converted


def _kind(value: object) -> str:
    """A value in a message: itself if it is short, else what kind of value it is."""
    if value is None:
        return "null"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value)
