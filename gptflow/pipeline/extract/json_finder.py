"""Finds the JSON values of a reply: the whole text, a fenced block, or a part of the prose.

What counts, in this order:

1. the whole text, if it is JSON: any value;
2. fenced blocks (``` or ~~~) whose whole content is JSON: any value;
3. in prose, each `{` or `[` from which a whole object or array can be read, left to right.
   A bracket that is attached to a word (`items[0]`) is an index, not an array.

JSON is RFC 8259 and nothing else: trailing commas, single quotes, `True`, `NaN` and comments are
not repaired, and neither is half a surrogate pair, which no UTF-8 file can hold. When a value
breaks off at the end of the text (a reply cut by its token limit), its inner objects are not
offered in its place: they are not what was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gptflow.pipeline.extract.invalid import Invalid

MOST_ATTEMPTS = 500
"""Places in prose that look like JSON, after which the search is given up."""

_decode = msgspec.json.Decoder().decode
_raw_decode = json.JSONDecoder().raw_decode
_NOT_JSON = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)

# What may follow the bracket is part of the pattern, so that braces of prose, LaTeX and code cost
# no attempt.
_CANDIDATE = re.compile(r"""\{(?=\s*["}])|(?<![\w\])])\[(?=\s*[]\[{"\-\dtfn])""")
_FENCE = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)([^\n`]*+)$", re.MULTILINE)


def json_values(text: str) -> Iterator[Any]:
    """The JSON values of a text, best first, found as far as the caller goes on asking.

    Takes time in proportion to the text, whatever it holds.

    Raises:
        Invalid: after the values found so far, when JSON breaks off at the end of the text or is
            nested deeper than Python's parsers go (about 1,000 levels).
    """
    try:
        value = _decode(text)
    except _NOT_JSON:
        yield from _fenced(text)
        yield from _in_prose(text)
    else:
        yield value


def _fenced(text: str) -> Iterator[Any]:
    """The fenced blocks that are JSON. One pass over the fence lines, so it cannot backtrack."""
    if "```" not in text and "~~~" not in text:
        return
    opener: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opener is None:
            opener = fence
        elif fence[1].startswith(opener[1]) and not fence[2].strip():
            try:
                value = _decode(text[opener.end() : fence.start()])
            except _NOT_JSON:
                pass
            else:
                yield value
            opener = None


def _in_prose(text: str) -> Iterator[Any]:
    position, end_of_text = 0, len(text.rstrip())
    for _ in range(MOST_ATTEMPTS):
        candidate = _CANDIDATE.search(text, position)
        if candidate is None:
            return
        start = candidate.start()
        try:
            end = _raw_decode(text, start)[1]
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated string") or error.pos >= end_of_text:
                raise Invalid("the JSON in the reply breaks off before its end") from None
            position = _after_failure(text, start, error.pos)
        except RecursionError:
            raise Invalid("the JSON in the reply is nested too deeply") from None
        except ValueError:  # an integer of more digits than Python converts
            position = start + 1
        else:
            position = end
            try:
                # Decoded once more, so that prose and whole texts know the same JSON.
                value = _decode(text[start:end])
            except _NOT_JSON:
                continue
            yield value


def _after_failure(text: str, start: int, failed_at: int) -> int:
    """Where to look on: never back in what was read as JSON.

    That would take quadratic time, and offer a part of a broken value as if it were the answer.
    Only a string right before the place of failure is looked into again, since what was read as
    a string may be prose between two quotation marks.
    """
    read = text[start:failed_at].rstrip()
    if len(read) > 1 and read.endswith('"'):
        return start + max(1, read.rfind('"', 0, -1) + 1)
    return max(failed_at, start + 1)
