"""How many conversations go on at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FIRST_LANES = 64
MOST_LANES = 2048
"""Each holds a row in memory."""


@dataclass(frozen=True, slots=True)
class Width:
    """The number of a worker's lanes: as many as keep the engine busy, and few that only wait.

    The engine decides how many calls are under way; a lane more than that waits with a row that
    has begun for nothing, a lane less leaves a key idle.
    """

    first: int
    """Lanes to begin with."""
    most: int
    in_line: Callable[[], int]
    """How many calls wait for a key."""

    @classmethod
    def fixed(cls, lanes: int) -> Width:
        """Always so many."""
        return cls(lanes, lanes, lambda: 0)

    @classmethod
    def adaptive(cls, in_line: Callable[[], int]) -> Width:
        """As many as the engine has use for."""
        return cls(FIRST_LANES, MOST_LANES, in_line)

    def is_narrow(self, lanes: int) -> bool:
        """Whether one lane more would find a key that is free."""
        return lanes < self.most and not self.in_line()

    def is_wide(self, lanes: int) -> bool:
        """Whether most lanes only wait."""
        return lanes > self.first and self.in_line() > lanes // 2
