"""Which records of a source are wanted, as it is walked."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count


class Wanted:
    """The numbers of the records that are wanted, read one ahead of what was given."""

    def __init__(self, only: Iterable[int] | None = None) -> None:
        """`only`: their numbers, ascending; without it all."""
        self._numbers = iter(count() if only is None else only)
        self.next = next(self._numbers, None)
        """The number of the next one; None behind the last."""

    def step(self) -> int | None:
        """Go on to the next number, and tell it."""
        self.next = next(self._numbers, None)
        return self.next
