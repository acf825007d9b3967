"""What a YAML syntax error means to the person who made it.

The parser notices an error where it cannot go on, which is often lines after the slip, and says so
in the grammar's words. Each rule here knows one common slip, where it stands and how it is mended.
The parser's words that the rules look for are those of libyaml and of PyYAML's own parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import yaml

from gptflow.spec.node import Sheet, Span
from gptflow.spec.problems import Place, Problem, place_in_text

_UNQUOTED_TEMPLATE = re.compile(r"""(?:^|[:-])[ ]+(?=\{\{)|^(?=\{\{)""")
_CLOSING = {"[": "]", "{": "}"}
_QUOTES = ("'", '"')


MISSING_KEY = (
    "a key is missing before the colon",
    "write the key, or quote the text if it is a value",
)


def unquoted_template(place: Place) -> Problem:
    """The problem of a template that YAML takes for a mapping."""
    return Problem(
        "an unquoted {{ begins a mapping in YAML",
        place,
        'quote the whole value, as in "{{ text }}"',
    )


def syntax_problem(
    sheet: Sheet, start: int, error: yaml.MarkedYAMLError, reading: Reading
) -> Problem:
    """The error as a problem. `start`: where in the sheet the parser began to read."""
    mark = error.problem_mark or error.context_mark
    slip = _Slip(
        sheet=sheet,
        index=min(start + mark.index, len(sheet.text)) if mark else start,
        context=start + error.context_mark.index if error.context_mark else None,
        words=f"{error.context or ''}: {error.problem or ''}",
        last_scalar=reading.last_scalar,
        bracket=next((at for at in reversed(reading.opened) if sheet.text[at] in _CLOSING), None),
    )
    found = (rule(slip) for rule in _RULES)
    return next(problem for problem in found if problem is not None)


@dataclass(slots=True)
class Reading:
    """How far a text was read when the error came."""

    last_scalar: Span | None = None
    opened: list[int] = field(default_factory=list)
    """Where the lists and mappings begin that are not at their end yet, outermost first."""


@dataclass(frozen=True, slots=True)
class _Slip:
    """What is known of an error."""

    sheet: Sheet
    index: int
    """Where the parser could not go on."""
    context: int | None
    """Where that began which it was reading then."""
    words: str
    last_scalar: Span | None
    bracket: int | None
    """The innermost open [ or {."""

    @property
    def char(self) -> str:
        return self.sheet.text[self.index : self.index + 1]

    def place(self, index: int, length: int = 1) -> Place:
        return place_in_text(self.sheet.file, self.sheet.text, index, length)

    def line_start(self, index: int) -> int:
        return index - self.place(index).column + 1

    def says(self, *words: str) -> bool:
        return any(word in self.words for word in words)


def _template(slip: _Slip) -> Problem | None:
    at = [slip.index]
    if slip.context is not None and slip.says("flow", "quoted scalar"):
        at.append(slip.context)
    if slip.last_scalar:
        at.append(slip.last_scalar.start)
    for index in at:
        place = slip.place(index)
        match = _UNQUOTED_TEMPLATE.search(place.text)
        if match and not any(quote in place.text[: match.end()] for quote in _QUOTES):
            start = slip.line_start(index) + match.end()
            return unquoted_template(slip.place(start, len(place.text.rstrip()) - match.end()))
    return None


def _tab(slip: _Slip) -> Problem | None:
    text = slip.place(slip.index).text
    indent = text[: len(text) - len(text.lstrip())]
    if "\t" not in indent or slip.says("quoted scalar"):
        return None
    return Problem(
        "a tab in the indentation",
        slip.place(slip.line_start(slip.index) + indent.index("\t")),
        "indent with spaces: YAML does not take tabs",
    )


def _open_quote(slip: _Slip) -> Problem | None:
    hint = "close it where the text ends; a text of several lines goes below a `key: |`"
    if slip.context is not None and slip.says("quoted scalar"):
        return Problem("this quote is never closed", slip.place(slip.context), hint)
    last = slip.last_scalar
    if last is None or last.source[:1] not in _QUOTES:
        return None
    opened, closed = last.place(), slip.place(max(last.start, last.end - 1))
    if opened.line == closed.line or slip.place(slip.index).line != closed.line:
        return None
    opening = slip.place(last.start)
    return Problem(f"this quote is closed only in line {closed.line}", opening, hint)


def _quote_inside(slip: _Slip) -> Problem | None:
    last = slip.last_scalar
    if last is None or last.source[:1] not in _QUOTES or "\n" in last.source:
        return None
    between = slip.sheet.text[last.end : slip.index]
    if between.strip(" ") or slip.char in {"", "\n", "\r"}:
        return None
    hint = (
        "a quote inside of single quotes is written twice: 'don''t'"
        if last.source[0] == "'"
        else 'a quote inside of double quotes is written \\"; or put single quotes around'
    )
    return Problem("the text goes on after its closing quote", slip.place(slip.index), hint)


def _escape(slip: _Slip) -> Problem | None:
    backslash = slip.sheet.text.rfind("\\", 0, slip.index + 1)
    if slip.says("invalid Unicode character escape code"):  # half of a pair, as JSON writes emoji
        return Problem(
            f"{slip.sheet.text[backslash : slip.index + 4]} is no character",
            slip.place(backslash, slip.index + 4 - backslash),
            "write the character itself, or all of it in one escape: \\U0001F600",
        )
    if not slip.says("unknown escape", "hexdecimal", "hexadecimal", "escape sequence"):
        return None
    return Problem(
        f"{slip.sheet.text[backslash : backslash + 2]} is no escape that double quotes know",
        slip.place(backslash, 2),
        "put single quotes around the text, or write \\\\ for a backslash",
    )


def _colon(slip: _Slip) -> Problem | None:
    if not slip.says("mapping values are not allowed", "could not find expected ':'"):
        return None
    here = slip.place(slip.index)
    if re.search(r":\s", here.text[: here.column - 1]):
        hint = "quote the value: an unquoted text cannot have a colon and a space in it"
        return Problem("a second colon in one line", here, hint)
    above = slip.sheet.text[: slip.line_start(slip.index)].rstrip()
    before = slip.place(max(0, len(above) - 1))
    indent = len(before.text) - len(before.text.lstrip())
    start = slip.line_start(max(0, len(above) - 1)) + indent
    place = slip.place(start, len(above) - start)
    if re.match(r"(- +)*[\w.-]+:\S", before.text[indent:]):
        return Problem("no space after the colon", place, "write `key: value`")
    if ":" not in before.text:
        return Problem(
            "neither a key nor a part of the value above",
            place,
            "write `key: value`; a text of several lines goes below a `key: |`, indented",
        )
    hint = f"line {before.line} has its value already: line up with it, or leave its value out"
    return Problem("indented more than the line above", here, hint)


def _missing_key(slip: _Slip) -> Problem | None:
    if slip.char != ":" or not slip.says("expected key", "block end", "node content"):
        return None
    message, hint = MISSING_KEY
    return Problem(message, slip.place(slip.index), hint)


def _first_character(slip: _Slip) -> Problem | None:
    index = slip.index
    if slip.context is not None and slip.says("an alias", "an anchor", "a tag", "a directive"):
        index = slip.context
    elif not slip.says("cannot start any token", "node content"):
        return None
    char = slip.sheet.text[index : index + 1]
    if not char.strip():
        return None
    here = slip.place(index)
    value = here.text[here.column - 1 :].strip().replace('"', "")
    return Problem(
        f"an unquoted text cannot begin with {char}",
        here,
        f'quote the whole value, as in "{value}"',
    )


def _bracket(slip: _Slip) -> Problem | None:
    if slip.bracket is None:
        return None
    bracket = slip.sheet.text[slip.bracket]
    closing = _CLOSING[bracket]
    here, opened = slip.place(slip.index), slip.place(slip.bracket)
    if here.line == opened.line and closing in here.text[here.column - 1 :]:
        hint = f"separate with commas, and quote text that has one of , : {bracket} {closing} in it"
        return Problem(f"a comma or {closing} is missing here", here, hint)
    hint = f"close it with {closing}; quote the value if it is text that begins with {bracket}"
    return Problem(f"this {bracket} is never closed", opened, hint)


def _list_item(slip: _Slip) -> Problem | None:
    if not slip.says("block sequence entries", "sequence entries are not allowed"):
        return None
    hint = "begin each item in a line of its own, as `- item`; or write [item, item]"
    return Problem("a list cannot begin in the line of its key", slip.place(slip.index), hint)


def _block_header(slip: _Slip) -> Problem | None:
    if slip.context is None or not slip.says("while scanning a block scalar"):
        return None
    sign = slip.sheet.text[slip.context]
    return Problem(
        f"the text of a block begins in the line after its {sign}",
        slip.place(slip.index),
        f"put it there, indented; or quote the value, if it is text that begins with {sign}",
    )


def _indentation(slip: _Slip) -> Problem | None:
    if not slip.says("expected key", "block end", "'-' indicator", "document start"):
        return None
    place = slip.place(slip.index)
    length = max(1, len(place.text.rstrip()) - place.column + 1)
    hint = "line it up with the lines that it belongs to; items of a list begin with `- `"
    message = "this line's indentation fits none of the lines above"
    return Problem(message, slip.place(slip.index, length), hint)


def _anything(slip: _Slip) -> Problem:
    return Problem(
        f"not valid YAML: {slip.words.strip(': ')}",
        slip.place(slip.index),
        "look for a quote, a bracket or an indentation that is wrong here or above",
    )


_RULES: tuple[Callable[[_Slip], Problem | None], ...] = (
    _template,
    _tab,
    _escape,
    _open_quote,
    _quote_inside,
    _colon,
    _missing_key,
    _first_character,
    _bracket,
    _block_header,
    _list_item,
    _indentation,
    _anything,
)
"""The first that knows the slip speaks."""
