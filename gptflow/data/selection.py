"""Which records of a source become rows: where, then limit, then sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from gptflow.records import Columns
from gptflow.spec.model import Sample, SourceSpec


@dataclass(frozen=True, slots=True)
class Selection:
    """What the spec says about which records become rows, and what identifies them."""

    where: Callable[[Columns], bool] | None = None
    """The compiled expression; what it raises ends the run."""
    limit: int | None = None
    sample: Sample | None = None
    id_columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: SourceSpec, where: Callable[[Columns], bool] | None) -> Selection:
        """The selection of a spec's source; `where` is its expression, compiled."""
        return cls(where, source.limit, source.sample, source.id_columns)


def sample_rank(seed: int, key: bytes) -> bytes:
    """A row's place in the draw: the sample is the n rows with the smallest.

    It depends on nothing but seed and row key, so that a sample stays nearly the same when rows
    are added, and exactly the same when they are reordered.
    """
    return blake2b(b"%d:" % seed + key, digest_size=8).digest()
