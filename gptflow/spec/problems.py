"""What is wrong with a spec, and how it is shown: place, line, caret and hint."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from gptflow.spec.showable import is_showable, showable

_LINE_END = re.compile(r"[\r\n]|\Z")
MOST_CHARS = 1_000
"""How much of a message is shown."""
_SHOWN_CHARS = 120
"""How much of a long line is shown."""
_LEAD_CHARS = 40
"""How much of it stands before the caret."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A stretch of one line of a file. Lines and columns count from 1, as editors do."""

    file: str
    """The path as a person would type it."""
    line: int
    """0 where there is no line to show, as in a spec that was built in Python."""
    column: int
    length: int = 1
    """Characters to underline, at least 1."""
    text: str = ""
    """The line itself, without its end."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a spec."""

    message: str
    place: Place
    hint: str | None = None

    def render(self) -> str:
        """The problem as a person reads it, without a line end.

        ```
        label.yaml:21:5: unknown key 'paralelism'
           21 |     paralelism: {mode: async}
              |     ^^^^^^^^^^
        Hint: did you mean 'parallelism'?
        ```
        """
        lines = [f"{self.place}: {_shortened(self.message)}"]
        if self.place.text:
            line, carets = _line_and_carets(self.place)
            lines += [f"{self.place.line:>5} | {line}", f"      | {carets}"]
        if self.hint:
            lines.append(f"Hint: {_shortened(self.hint)}")
        return "\n".join(
            showable(line).replace("\n", "\N{REPLACEMENT CHARACTER}") for line in lines
        )


def place_in_text(file: str, text: str, offset: int, length: int = 1) -> Place:
    """The place of `length` characters from `offset` of a file's text.

    A stretch that goes on in the next line ends at its line's end.
    """
    before = text[:offset]
    start = max(before.rfind("\n"), before.rfind("\r")) + 1
    breaks = before.count("\n") + before.count("\r") - before.count("\r\n")
    end_match = _LINE_END.search(text, offset)
    end = end_match.start() if end_match else len(text)
    return Place(
        file=file,
        line=breaks + 1,
        column=offset - start + 1,
        length=max(1, min(length, end - offset)),
        text=text[start:end],
    )


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a slip of, or None."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order of their files and lines, each one once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.place)


def _shortened(text: str) -> str:
    """A message without the middle of what it quotes, where that is pages long."""
    half = MOST_CHARS // 2
    return text if len(text) <= MOST_CHARS else f"{text[:half]} … {text[-half:]}"


def _line_and_carets(place: Place) -> tuple[str, str]:
    """The line as it can be shown, and the carets that stand under the stretch.

    A tab before the stretch is a tab in the line of carets too: whatever a tab's width is, both
    lines stand in the same gutter and come out alike.
    """
    start, text = place.column - 1, place.text
    first = max(0, start - _LEAD_CHARS) if len(text) > _SHOWN_CHARS else 0
    shown = text[first : first + _SHOWN_CHARS]
    under = shown[start - first :][: place.length]
    line = f"{'…' if first else ''}{shown}{'…' if first + len(shown) < len(text) else ''}"
    before = line[: start - first + (1 if first else 0)]
    indent = "".join("\t" if char == "\t" else " " * _width(char) for char in before)
    carets = "^" * max(1, sum(_width(char) for char in under))
    return line, indent + carets


def _width(char: str) -> int:
    """Columns that a character takes in a terminal."""
    if char == "\t" or not is_showable(char):
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
