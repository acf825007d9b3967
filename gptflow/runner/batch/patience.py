"""Asking the Batch API until it answers: what passes is waited out, a little longer each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gptflow.engine.backoff import doubled
from gptflow.engine.batch_state import ApiRefused, is_passing
from gptflow.engine.clock import Clock

T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


class Patience:
    """Tries requests again that may be sent twice. It is the one place that does."""

    def __init__(self, clock: Clock, patience_s: float) -> None:
        """`patience_s`: for how long one request is tried."""
        self._clock = clock
        self._patience_s = patience_s

    async def insist(self, ask: Callable[[], Awaitable[T]], tries: int | None = None) -> T:
        """What comes of asking; at most so many `tries`.

        Raises:
            ApiRefused: no further try will do better, or the patience is at its end.
        """
        until = self._clock.now() + self._patience_s
        tried = 0
        while True:
            try:
                return await ask()
            except ApiRefused as refused:
                verdict = refused.verdict
                longest_s = doubled(FIRST_WAIT_S, tried, LONGEST_WAIT_S)
                tried += 1
                wait_s = verdict.wait_s or longest_s * (0.5 + self._clock.random() / 2)
                is_over = self._clock.now() + wait_s > until
                if not is_passing(verdict) or is_over or tried == tries:
                    raise
            await self._clock.sleep(wait_s)
