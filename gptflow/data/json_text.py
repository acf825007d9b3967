"""JSON as text: what must come out as it went in is sliced from it, never decoded and rebuilt."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

from gptflow.data.excerpt import data_error, not_json, not_utf8, short
from gptflow.errors import DataError
from gptflow.records import Columns

SPACE = b" \t\r\n"
"""What JSON calls whitespace. `bytes.strip()` without it would take form feeds too."""

MAX_DIGITS = 4300
"""The longest integer that Python reads from text (sys.int_info.default_max_str_digits)."""

MAX_DEPTH = 500
"""Arrays and objects inside of each other. Python itself goes no deeper than about a thousand,
less what the program stands on at that moment: what is read once must be read every time."""

_CONTAINERS = frozenset((dict, list))

_decode = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_line_break = re.compile(rb"[\r\n][ \t\r\n]*")
_space = re.compile(r"[ \t\r\n]*")


def parse_object(raw: bytes, place: tuple[str, int]) -> Columns:
    """The JSON object in `raw`, which begins at `place`, decoded.

    Raises:
        DataError: it is not UTF-8, not valid JSON, holds a number that Python cannot or a name
            twice, is nested too deeply, or is not an object.
    """
    try:
        value = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _parse_patiently(raw, place)
    if not isinstance(value, dict):
        found = _kind(value)
        what = f"expected a JSON object, found {found}"
        raise data_error(place, what, text=raw, hint='a row is an object: {"text": ...}')
    # Each member has its colon, and what decoding dropped is not among the members.
    is_plain = raw.count(b":") == len(value) or _named(raw) == len(value)
    if not is_plain or (len(raw) >= MAX_DEPTH and raw.count(b"[") >= MAX_DEPTH):
        _check_members(value, raw, place)
    return value


def _check_members(value: Columns, raw: bytes, place: tuple[str, int]) -> None:
    """Raises DataError if a name stands twice in an object, or the value is nested too deeply."""
    is_flat = _CONTAINERS.isdisjoint(map(type, value.values()))
    members = len(value) if is_flat else _count_members(value)
    if members < 0:
        raise too_deep(place, raw)
    if raw.count(b":") == members:
        return
    # Colons in the texts, as in a URL, mean no more than that one must look more closely.
    if _named(raw) != members:
        _parse_patiently(raw, place)


def _named(raw: bytes) -> int:
    """How many members the objects in `raw` may have at most, those inside of others included."""
    return raw.translate(None, SPACE).count(b'":')


def _count_members(value: Columns) -> int:
    """The members of an object and of all objects in it; -1 where it is nested too deeply."""
    members = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner = []
        for container in level:
            values = container
            if type(container) is dict:
                members += len(container)
                values = container.values()
            inner += [item for item in values if type(item) in _CONTAINERS]
        if not inner:
            return members
        level = inner
    return -1


def too_deep(place: tuple[str, int], raw: bytes | None = None) -> DataError:
    """The error for JSON with too many arrays and objects inside of each other."""
    what = f"the JSON is nested too deeply: more than {MAX_DEPTH} levels"
    return data_error(place, what, text=raw, hint="write the inner part as a string")


def _parse_patiently(raw: bytes, place: tuple[str, int]) -> Any:
    r"""Decode what msgspec refuses but JSON allows, a lone \ud800, or say what is wrong."""
    try:
        return _with_plain_names(_patient.decode(raw.decode()))
    except UnicodeDecodeError as error:
        raise not_utf8(error, place) from None
    except json.JSONDecodeError as error:
        raise not_json(error, place, error.doc, error.pos) from None
    except RecursionError:
        raise too_deep(place, raw) from None
    except DataError as error:
        raise data_error(place, error.message, text=raw, hint=error.hint) from None


def _with_plain_names(value: Any) -> Any:
    """The value, if all its names can be written down in UTF-8: in the store, in a header."""
    for name in value if isinstance(value, dict) else ():
        if any("\ud800" <= character <= "\udfff" for character in name):
            what = f"the column's name '{short(name)}' holds half of a surrogate pair"
            raise DataError(what, hint="rename the column")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise DataError(f"{name} is not JSON", hint="write null, or a string")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DataError(f"the number {short(text)} is out of range", hint="write it as a string")
    return value


def _readable(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise DataError(f"a number of {len(text):,} digits", hint="write it as a string")
    return int(text)


def _each_once(members: list[tuple[str, Any]]) -> Columns:
    value = dict(members)
    if len(value) == len(members):
        return value
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            what = f"an object has the name '{short(name)}' twice"
            raise DataError(what, hint="keep one of them, or rename one")
        seen.add(name)
    return value


_patient = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=_finite,
    parse_int=_readable,
    object_pairs_hook=_each_once,
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


def one_line(raw: bytes) -> bytes:
    """The JSON value in `raw` without its line breaks."""
    # No JSON string holds a bare one, so that this touches layout alone.
    return _line_break.sub(b" ", raw) if b"\n" in raw or b"\r" in raw else raw


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
