"""Data as chunks: one for each worker, contiguous, and as even as they can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from gptflow.errors import UsageError


def chunks_of(data: Any, workers: int) -> list[Any]:
    """`data` in its order, cut for at most `workers` workers; none of the chunks is empty.

    A table with `iloc` (pandas) is cut into tables. Anything else that can be iterated, a generator
    too, is cut into lists. The lengths differ by one at the most.

    Raises:
        UsageError: it cannot be iterated, or it is one text or one mapping.
    """
    if hasattr(data, "iloc"):  # iterating one would give the names of its columns
        return [data.iloc[start:end] for start, end in _bounds(len(data), workers)]
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise UsageError(
            f"data is one {type(data).__name__}, not a sequence of items",
            hint="give a list; of a mapping: list(data.items())",
        )
    items = list(data)
    return [items[start:end] for start, end in _bounds(len(items), workers)]


def dealt(items: Sequence[Any], workers: int) -> list[list[Any]]:
    """`items` dealt out like cards: where the long ones stand together, all workers get some."""
    return [list(items[first::workers]) for first in range(min(workers, len(items)))]


def _bounds(length: int, workers: int) -> list[tuple[int, int]]:
    count = min(workers, length)
    return list(pairwise(length * index // count for index in range(count + 1))) if count else []
