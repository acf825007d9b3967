"""What one rendering may take in all: CPU time, and memory for what it makes on the way.

Each single operation is kept small by `size_limit`. Loops, macros that call each other and files
that include each other can still do small things without end, or keep all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from jinja2.exceptions import SecurityError

from gptflow.pipeline.size_limit import MAX_PROMPT_CHARS, allow, allow_values, joined

MAX_CPU_S = 5.0
"""A prompt takes microseconds, one of a long document perhaps a tenth of a second."""
MAX_MADE_CHARS = 10 * MAX_PROMPT_CHARS
POINTER_CHARS = 8
"""What an item of a list counts that was there before: the bytes of the pointer at it."""
ITEM_CHARS = 64
"""What one counts that may be new: about the bytes of a short text."""
LOOK_INTERVAL_S = 0.01
"""CPU time costs a call of the kernel, so that it is not asked for at each step."""
Made = TypeVar("Made")
Clock = Callable[[], float]


class RenderBudget(threading.local):
    """What the rendering under way on this thread may still take. Without one, it is endless."""

    def __init__(self, cpu_s: Clock = time.thread_time, clock_s: Clock = time.perf_counter) -> None:
        super().__init__()
        self._cpu_s = cpu_s
        self._clock_s = clock_s
        self._look_s = self._end_s = self._left_chars = float("inf")

    def begin(self) -> None:
        """A rendering begins."""
        self._look_s = self._clock_s() + LOOK_INTERVAL_S
        self._end_s = float("inf")
        self._left_chars = MAX_MADE_CHARS

    def step(self) -> None:
        """One turn of a loop, or one call. Raises SecurityError when the time is used up."""
        now_s = self._clock_s()
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_INTERVAL_S
        cpu_s = self._cpu_s()
        self._end_s = min(self._end_s, cpu_s + MAX_CPU_S)
        if cpu_s > self._end_s:
            raise SecurityError(f"rendering took more than {MAX_CPU_S:g} s")

    def within(self, made: Made) -> Made:
        """What an operation made, if that is not too long, and all together not too much."""
        if isinstance(made, str | bytes | list | tuple):
            size = len(made)
            allow(size)
            self._count(size if isinstance(made, str | bytes) else size * POINTER_CHARS)
        return made

    def built(self, made: Made) -> Made:
        """The same for what may hold other values: a small list can be long in print.

        Lists that hold one list twice, which holds one list twice ..., take no memory, but ages
        to be compared or printed.
        """
        if isinstance(made, list | tuple | dict):
            allow_values(made)
            self._count(len(made) * ITEM_CHARS)
            return made
        return self.within(made)

    def joined(self, texts: Iterable[str]) -> str:
        """The texts as one."""
        return self.within(joined(texts))

    def _count(self, chars: int) -> None:
        self._left_chars -= chars
        if self._left_chars < 0:
            raise SecurityError(
                f"what is made on the way is larger than {MAX_MADE_CHARS:,} characters in all"
            )
