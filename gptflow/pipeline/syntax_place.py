"""Where a template's syntax error is: Jinja itself tells the line and no more."""

from __future__ import annotations

import re

from jinja2 import Environment, TemplateSyntaxError

_OPENING = re.compile(r"\{[{%]")
_CHAR_AT = re.compile(r"unexpected char '.+' at (\d+)")
_NAMED = re.compile(r"(?:got|unexpected|unknown tag|no) '([^']+)'", re.IGNORECASE)


def syntax_stretch(
    environment: Environment, template: str, error: TemplateSyntaxError
) -> tuple[int, int]:
    """Offset and length of what the error is about: a token, else its tag, else its line."""
    if char := _CHAR_AT.search(error.message or ""):
        return int(char.group(1)), 1
    lines = template.split("\n")
    index = min(error.lineno, len(lines)) - 1
    start, line = sum(len(before) + 1 for before in lines[:index]), lines[index]
    begin, end = _failing_tag(environment, line, error.message)
    named = _NAMED.search(error.message or "")
    token = _token(named.group(1), line, begin, end) if named else None
    return (start + token[0], token[1]) if token else (start + begin, max(1, end - begin))


def _failing_tag(environment: Environment, line: str, message: str | None) -> tuple[int, int]:
    """The tag of the line that by itself fails in the same way; without one, the line's text."""
    openings = [match.start() for match in _OPENING.finditer(line)]
    for begin, end in zip(openings, [*openings[1:], len(line)], strict=True):
        try:
            environment.parse(line[begin:end])
        except TemplateSyntaxError as error:
            if error.message == message:
                return begin, begin + len(line[begin:end].rstrip())
    indent = len(line) - len(line.lstrip())
    return indent, max(indent, len(line.rstrip()))


def _token(name: str, line: str, begin: int, end: int) -> tuple[int, int] | None:
    """The first place of a token in a stretch of a line: `=` is not part of `==` or `<=`."""
    pattern = re.escape(name)
    if name == "=":
        pattern = "(?<![=!<>])=(?!=)"
    elif name.isidentifier():
        pattern = rf"\b{name}\b"
    found = re.compile(pattern).search(line, begin, end)
    return (found.start(), len(name)) if found else None
