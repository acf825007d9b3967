"""How large what a template makes would be, told before it is made.

Each operation checks its result, so that nothing it is given is too large either. That leaves
those that multiply: their result is estimated from above, from what they are given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

MAX_PROMPT_CHARS = 20_000_000
"""A rendered text may not be longer: no model reads more, and a loop could fill the memory."""
MAX_NUMBER_BITS = 10_000
MAX_VALUES = 2_000_000
MAX_LISTS = 100_000
"""What a list may hold, with the lists in it, and how many lists these may be."""
TEXT_CHARS = 8
"""What an empty text counts that is kept: the bytes of the pointer at it."""
LIST_CHARS = 64
"""What an empty list counts: about the bytes that it takes."""
PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d*)\.?(\*|\d*)")


def allow(size: int) -> None:
    """Raises SecurityError if a text or a list of that size is too long."""
    if size > MAX_PROMPT_CHARS:
        raise SecurityError(f"the text or list is longer than {MAX_PROMPT_CHARS:,} characters")


def allow_bits(bits: int) -> None:
    """Raises SecurityError if a number of so many bits is too large."""
    if bits > MAX_NUMBER_BITS:
        raise SecurityError("the number would be too large")


def allow_values(made: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> None:
    """Raises SecurityError if lists, tuples and dicts in each other hold too many values in all."""
    values = lists = 0
    waiting: list[Any] = [made]
    while waiting:
        one = waiting.pop()
        values += len(one)
        lists += 1
        if values > MAX_VALUES or lists > MAX_LISTS:
            most = f"{MAX_VALUES:,} values or {MAX_LISTS:,} lists"
            raise SecurityError(f"a list holds more than {most}")
        members = chain.from_iterable(one.items()) if isinstance(one, dict) else one
        waiting += [member for member in members if isinstance(member, list | tuple | dict)]


def joined(texts: Iterable[str]) -> str:
    """The texts as one; stops as soon as they are too long."""
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text)
        size += len(text) + TEXT_CHARS
        if size > MAX_PROMPT_CHARS:
            allow(size)
    return "".join(parts)


class BoundedBuffer(list[str]):
    """What a template has written so far, up to the limit."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def append(self, text: str) -> None:
        """Adds a text."""
        self._size += len(text) + TEXT_CHARS
        allow(self._size)
        super().append(text)

    def extend(self, texts: Iterable[str]) -> None:
        """Adds texts, one by one."""
        for text in texts:
            self.append(text)


def printed_size(value: object, indent: int = 0) -> int:
    """The characters that a value takes when printed, about; anything above the limit is "more".

    A small list can be long in print, where it holds one text many times.
    """
    if isinstance(value, str | bytes):
        return len(value)
    size = 0
    levels: list[Iterator[object]] = [iter([value])]
    while levels and size <= MAX_PROMPT_CHARS:
        for item in levels[-1]:
            size += 2 + indent * len(levels)
            if isinstance(item, str | bytes):
                size += len(item)
            elif isinstance(item, int):
                size += item.bit_length() // 3
            elif isinstance(item, Mapping):
                levels.append(chain.from_iterable(item.items()))
            elif isinstance(item, list | tuple):
                levels.append(iter(item))
            elif isinstance(item, range):
                size += 7 * len(item)
            elif isinstance(item, Namespace):
                raise SecurityError("a namespace cannot be printed, only what is in it")
            else:
                continue
            break
        else:
            levels.pop()
    return size


def sum_size(left: object, right: object) -> int:
    """The size of `left + right`."""
    sides = [side for side in (left, right) if isinstance(side, str | bytes | list | tuple)]
    return sum(map(len, sides))


def product_size(left: object, right: object) -> int:
    """The size of a text or list times a number."""
    sizes = [len(side) for side in (left, right) if isinstance(side, str | bytes | list | tuple)]
    times = [side for side in (left, right) if isinstance(side, int)]
    return sizes[0] * times[0] if sizes and times else 0


def percent_size(text: str | bytes, values: object) -> int:
    """The size of `text % values`."""
    shown = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    if re.search(r"%\([^)]*\(", shown):
        raise SecurityError("a name in a % format may not hold a bracket")
    given = _members(values)
    star = max((abs(value) for value in given if isinstance(value, int)), default=0)
    longest = max(map(printed_size, (*given, values)), default=0)
    size = len(shown)
    for numbers in PERCENT.findall(shown):
        size += longest + sum(star if number == "*" else int(number or 0) for number in numbers)
    return size


def spec_size(spec: str) -> int:
    """The characters that a format specification such as ">80" or ".3f" can ask for."""
    return sum(map(int, re.findall(r"\d+", spec)))


def _members(values: object) -> list[object]:
    if isinstance(values, Mapping):
        return list(values.values())
    return list(values) if isinstance(values, list | tuple) else [values]


def _count(value: object) -> int:
    return abs(value) if isinstance(value, int) else 0


def _plain(value: object = None, *_: object, **__: object) -> int:
    return printed_size(value)


def _one_number(*_: object, **__: object) -> int:
    return 20


def _padded(value: object = "", width: object = 80, *_: object, **__: object) -> int:
    return max(printed_size(value), _count(width))


def _expanded(text: str | bytes = "", tabsize: object = 8, *_: object, **__: object) -> int:
    tabs = text.count("\t") if isinstance(text, str) else text.count(b"\t")
    return len(text) + tabs * _count(tabsize)


def _replaced(
    text: Any = "", old: Any = "", new: Any = "", count: object = None, *_: object, **__: object
) -> int:
    allow(printed_size(text))
    if not isinstance(text, bytes):
        text, old = str(text), str(old)
    times = text.count(old)
    if isinstance(count, int) and count >= 0:
        times = min(times, count)
    size: int = len(text) + times * printed_size(new)
    return size


def _joined(parts: object = (), separator: object = "", *_: object, **__: object) -> int:
    return printed_size(parts) + len(_members(parts)) * printed_size(separator)


def _joined_by(separator: object = "", parts: object = (), *_: object, **__: object) -> int:
    number = len(parts) if isinstance(parts, str | bytes | Mapping) else len(_members(parts))
    return printed_size(parts) + number * printed_size(separator)


def _translated(text: str | bytes = "", table: object = None, *_: object, **__: object) -> int:
    return len(text) * max(map(printed_size, _members(table)), default=1)


def _filled(number: object = 0, length: object = 1, *_: object, **__: object) -> int:
    del number
    return _count(length)


def _indented(text: object = "", width: object = 4, *_: object, **__: object) -> int:
    step = len(width) if isinstance(width, str) else _count(width)
    lines = len(text.splitlines()) if isinstance(text, str) else 1
    return printed_size(text) + (lines + 1) * step


def _wrapped(
    text: object = "",
    width: object = 79,
    break_long_words: object = True,
    wrapstring: object = None,
    *_: object,
    **__: object,
) -> int:
    del break_long_words
    # Two lines that follow each other are together wider than one may be.
    breaks = 2 * printed_size(text) // max(1, _count(width))
    lines = len(text.splitlines()) if isinstance(text, str) else 1
    return printed_size(text) + (breaks + lines) * max(1, printed_size(wrapstring))


def _sliced(value: object = (), number: object = 0, *_: object, **__: object) -> int:
    return printed_size(value) + LIST_CHARS * _count(number)


def _as_json(value: object = None, indent: object = None, *_: object, **__: object) -> int:
    step = len(indent) if isinstance(indent, str) else _count(indent)
    return printed_size(value, step)


def _rounded(value: object = 0, precision: object = 0, *_: object, **__: object) -> int:
    allow_bits(4 * _count(precision))  # it is computed with 10 ** precision
    return printed_size(value)


def _linked(
    text: object = "",
    trim_url_limit: object = None,
    nofollow: object = False,
    target: object = "",
    rel: object = "",
    *_: object,
    **__: object,
) -> int:
    del trim_url_limit, nofollow
    words = len(text.split()) if isinstance(text, str) else 1
    return printed_size(text) + words * (printed_size(target) + printed_size(rel))


def _formatted(text: Any = "", *args: object, **kwargs: object) -> int:
    allow(printed_size(text))
    return percent_size(text, kwargs or args)


Estimate = Callable[..., int]
METHOD_SIZES: dict[str, Estimate] = {
    "center": _padded,
    "expandtabs": _expanded,
    "join": _joined_by,
    "ljust": _padded,
    "replace": _replaced,
    "rjust": _padded,
    "to_bytes": _filled,
    "translate": _translated,
    "zfill": _padded,
}
"""Methods of texts and numbers that can make more than they are given."""

_FILTER_SIZES: dict[str, Estimate] = {
    "batch": _sliced,
    "center": _padded,
    "count": _one_number,
    "format": _formatted,
    "indent": _indented,
    "join": _joined,
    "length": _one_number,
    "replace": _replaced,
    "round": _rounded,
    "slice": _sliced,
    "tojson": _as_json,
    "urlize": _linked,
    "wordwrap": _wrapped,
}


def filter_size(name: str) -> Estimate:
    """The estimate for a filter of Jinja; most make about as much as their value is in print."""
    return _FILTER_SIZES.get(name, _plain)
