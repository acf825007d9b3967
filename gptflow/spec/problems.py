"""What is wrong with a spec, and how it is shown: place, line, caret and hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A stretch of one line of a file. Lines and columns count from 1, as editors do."""

    file: str
    """The path as a person would type it."""
    line: int
    column: int
    length: int = 1
    """Characters to underline, at least 1."""
    text: str = ""
    """The line itself, without its end."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


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
        raise NotImplementedError  # the loader's part


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a slip of, or None."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return close[0] if close else None


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """The problems in the order of their files and lines, each one once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.place)
