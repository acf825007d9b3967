"""The extractor `regex`: what a pattern finds in the reply."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import regex

from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.invalid import BadExtractor, Invalid, TakesLong, listed, shown
from gptflow.pipeline.extract.reply_text import ReplyText
from gptflow.spec.extractor import RegexExtractor
from gptflow.spec.problems import did_you_mean

T = TypeVar("T")

MOST_PARTS = 100_000
"""Counted repeats are written out when a pattern is compiled: (((a{999}){999}){999}) takes all
the memory there is. So the product is limited."""

QUICK_S = 0.001
"""A search that is over by then keeps the other threads waiting, as any few lines of Python do: to
let them go on and to come back after them costs more than a thousand such searches."""

_TOKEN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<least>\d{1,12})(?:,(?P<most>\d{0,12}))?\}|.", re.DOTALL
)
_FLAGS = {"a": regex.A, "i": regex.I, "m": regex.M, "s": regex.S, "x": regex.X}


class FromRegex:
    """Gives the group of the first match, or with `all` a list of the group of every match.

    No match is invalid, with `all` too: a reply in another form must not pass for one with
    nothing to find. A group that took no part in the match is invalid; with `all` such matches
    are left out.
    """

    def __init__(self, spec: RegexExtractor, conversion: Conversion) -> None:
        self.conversion = conversion
        self.fields = (conversion.name,)
        self.pattern = _compiled(spec)
        self.group = _group(spec, self.pattern)
        self._pattern_shown = shown(spec.regex, 200)
        self._all = spec.all
        self._timeout_s = spec.timeout_s

    def extract(self, reply: ReplyText) -> dict[str, Any]:
        """The field's value."""
        try:
            value = self._every(reply) if self._all else self._first(reply)
        except TimeoutError:
            raise Invalid(
                f"the search for {self.fields[0]} took longer than {self._timeout_s:g} s"
            ) from None
        return {self.fields[0]: self.conversion(value)}

    def wants(self) -> str:
        """What a valid reply is."""
        typed = self.conversion.wants()
        wanted = f"text that matches the regular expression {self._pattern_shown}"
        return f"{wanted}, with {typed} for {self.fields[0]}" if typed else wanted

    def _first(self, reply: ReplyText) -> str:
        match = self._in_time(self.pattern.search, reply)
        if match is None:
            raise self._no_match()
        value = match[self.group]
        if value is None:
            message = (
                f"{self.fields[0]} is missing: its group {self.group} took no part in the match"
            )
            raise Invalid(message)
        return value

    def _every(self, reply: ReplyText) -> list[str]:
        values = self._in_time(self._groups, reply)
        if not values:
            raise self._no_match()
        return values

    def _groups(self, text: str, **limits: Any) -> list[str]:
        found = (match[self.group] for match in self.pattern.finditer(text, **limits))
        return [group for group in found if group is not None]

    def _in_time(self, search: Callable[..., T], reply: ReplyText) -> T:
        """What a search gives: a quick one at once, a long one while the other threads go on."""
        text = reply.searchable
        try:
            return search(text, timeout=QUICK_S, concurrent=False)
        except TimeoutError:
            if not reply.patient:
                raise TakesLong from None
            return search(text, timeout=self._timeout_s, concurrent=True)

    def _no_match(self) -> Invalid:
        return Invalid(f"{self.fields[0]} is missing: nothing matches {self._pattern_shown}")


def _unrolled(pattern: str) -> int:
    """How many parts the pattern has with its counted repeats written out, as they compile."""
    sizes = [0]
    last = 0
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            sizes.append(0)
            continue
        if token["least"]:
            repeats = max(int(token["least"]), int(token["most"] or 0))
            sizes[-1] += last * (repeats - 1)
            last *= repeats
            continue
        last = sizes.pop() if text == ")" and len(sizes) > 1 else 1
        sizes[-1] += last
    return sum(sizes)


def _compiled(spec: RegexExtractor) -> regex.Pattern[str]:
    if _unrolled(spec.regex) > MOST_PARTS:
        message = f"the pattern's repeats multiply to more than {MOST_PARTS:,} parts"
        raise BadExtractor(message, "regex", hint="use + or * instead of large {counts}")
    flags = 0
    for letter in spec.flags:
        flags |= _FLAGS[letter]
    try:
        return regex.compile(spec.regex, flags)
    except regex.error as error:
        raise BadExtractor(
            f"the regular expression is not valid: {getattr(error, 'msg', error)}",
            "regex",
            offset=getattr(error, "pos", None),
        ) from None
    except RecursionError:
        raise BadExtractor("the regular expression is nested too deeply", "regex") from None


def _group(spec: RegexExtractor, pattern: regex.Pattern[str]) -> int | str:
    """The group that is taken: the one that is named, else the first, else the whole match."""
    if spec.group is None:
        return 1 if pattern.groups else 0
    if spec.group in pattern.groupindex or spec.group in range(pattern.groups + 1):
        return spec.group
    names = sorted(pattern.groupindex, key=pattern.groupindex.__getitem__)
    if not pattern.groups:
        hint = "put parentheses around the part to take, or leave `group` out"
    elif isinstance(spec.group, str) and (close := did_you_mean(spec.group, names)):
        hint = f"did you mean {close!r}?"
    else:
        hint = f"the pattern has {pattern.groups} group" + ("s" if pattern.groups > 1 else "")
        hint += f", named {listed(names)}" if names else ""
    raise BadExtractor(f"the pattern has no group {spec.group!r}", "group", hint=hint)
