"""What a pipeline has its workers do, and what it asks of the things that it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gptflow.errors import UsageError


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker does: `func(worker, wrapper, chunk, *args, **kwargs)`."""

    func: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    """What Lark is told that it is; without it, the name of `func`."""
    gives: str = "results"
    """What Lark is told that it gave so many of."""
    keeps_replies: bool = False
    """Whether a worker that is told to end lets its call come back first: what it does with the
    reply is quick, and outlives it."""
    threads_instead: str = "multi_thread_pipeline"
    """What does the same with threads: for hints."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return name_of(self.func)

    def results(self, worker: int, wrapper: Any, chunk: Any) -> list[Any]:
        """Does the work on one chunk.

        Raises:
            UsageError: `func` gave something else than a list.
            Exception: whatever `func` raises.
        """
        given = self.func(worker, wrapper, chunk, *self.args, **self.kwargs)
        if isinstance(given, list):
            return given
        if isinstance(given, tuple | Iterator):  # a generator does its work here
            return list(given)
        found = "nothing" if given is None else f"a {type(given).__name__}"
        raise UsageError(
            f"{self.name} gave {found} for its chunk, not a list",
            hint="end it with `return results`, a list with what became of each item",
        )


def name_of(func: Any) -> str:
    """What a person calls a function, a partial of one, or another callable."""
    while isinstance(func, functools.partial):
        func = func.func
    return getattr(func, "__qualname__", None) or type(func).__name__
