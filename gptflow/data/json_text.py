"""JSON as text: what must come out as it went in is sliced from it, never decoded and rebuilt."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

from gptflow.data.excerpt import data_error, not_json, not_utf8
from gptflow.records import Columns

SPACE = b" \t\r\n"
"""What JSON calls whitespace. `bytes.strip()` without it would take form feeds too."""

MAX_DIGITS = 4300
"""The longest integer that Python reads from text (sys.int_info.default_max_str_digits)."""

_decode = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_space = re.compile(r"[ \t\r\n]*")


def parse_object(raw: bytes, place: tuple[str, int]) -> Columns:
    """The JSON object in `raw`, which begins at `place`, decoded.

    Raises:
        DataError: it is not UTF-8, not valid JSON, holds a number that Python cannot, or is not
            an object.
    """
    try:
        value = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _parse_patiently(raw, place)
    if not isinstance(value, dict):
        found = _kind(value)
        raise data_error(place, f"expected a JSON object, found {found}", text=raw)
    return value


def _parse_patiently(raw: bytes, place: tuple[str, int]) -> Any:
    r"""Decode what msgspec refuses but JSON allows, a lone \ud800, or say what is wrong."""
    try:
        return _patient.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise not_utf8(error, place) from None
    except json.JSONDecodeError as error:
        raise not_json(error, place, error.doc, error.pos) from None
    except RecursionError:
        raise data_error(place, "the JSON is nested too deeply", text=raw) from None
    except ValueError as error:
        raise data_error(place, str(error), text=raw) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON: write null, or a string")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is out of range: write it as a string")
    return value


def _readable(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits: write it as a string")
    return int(text)


_patient = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, parse_int=_readable
)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def members(raw: bytes) -> dict[str, bytes]:
    """The values of a valid JSON object by name, each as the exact text that stands there."""
    try:
        return {name: bytes(value) for name, value in _decode_members(raw).items()}
    except msgspec.DecodeError:  # a lone surrogate, again
        return _sliced_members(raw.decode())


_sizer = json.JSONDecoder(parse_int=str, parse_float=str)
"""Finds where a value ends; the values themselves are dropped, so no number is built."""


def _sliced_members(text: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    at = _after_space(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _sizer.raw_decode(text, at)
        start = _after_space(text, text.index(":", at) + 1)
        at = value_end(text, start)
        found[name] = text[start:at].encode()
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found


def value_end(text: str, start: int) -> int:
    """Where the JSON value that begins at `start` ends.

    Raises:
        json.JSONDecodeError: there is no whole, valid value.
        RecursionError: it is nested too deeply.
    """
    return _sizer.raw_decode(text, start)[1]


def _after_space(text: str, at: int) -> int:
    found = _space.match(text, at)
    assert found is not None  # the pattern matches nothing at all, too
    return found.end()


def encoded(value: Any) -> bytes:
    r"""The value as JSON on one line. A lone surrogate, which UTF-8 has no bytes for, as \ud800."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def canonical(value: Any) -> bytes:
    """The value as JSON, the same bytes for equal values: members sorted by name at all depths."""
    try:
        return _encode_sorted(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def decode_string(raw: bytes) -> str:
    """The string in `raw`, which is its JSON text with the quotes."""
    if b"\\" not in raw:
        return raw[1:-1].decode()
    return str(json.loads(raw))
