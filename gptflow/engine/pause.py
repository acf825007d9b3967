"""The time in which no key can be used: told at once, and then ever more rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from gptflow.engine.clock import Clock
from gptflow.engine.events import Event, KeysBack, KeysSpent
from gptflow.errors import RunStopped

LONGEST_SILENCE_S = 86_400.0
"""A run that waits over a weekend still says so every day."""


class Pause:
    """Tells that all keys are spent: at once, and after 1, 2, 4 ... times `base_wait_s`."""

    def __init__(
        self,
        clock: Clock,
        emit: Callable[[Event], None],
        give_up: Callable[[RunStopped], None],
        *,
        origin: str,
        base_wait_s: float,
        patience_s: float | None,
    ) -> None:
        """Build a pause that has not begun.

        Args:
            clock: where the time comes from.
            emit: is told KeysSpent and KeysBack.
            give_up: is called once when a pause has lasted `patience_s`, with the reason.
            origin: where the keys are written, for the hint.
            base_wait_s: the wait before the second telling; the later ones double it.
            patience_s: the longest pause; None for as long as it takes.
        """
        self._clock = clock
        self._emit = emit
        self._give_up = give_up
        self._hint = (
            f"add a key to {origin}, or change the entry of one that works again, such as its "
            '"rpm": the file is read as soon as it changes'
        )
        self._base_wait_s = base_wait_s
        self._patience_s = patience_s
        self._since = 0.0
        self._reason: RunStopped | None = None
        self._has_told = False
        self._telling: asyncio.Task[None] | None = None

    def begin(self, reason: RunStopped) -> None:
        """No key is left, which `reason` words. While a pause goes on this only changes that."""
        news = self._reason is None or self._reason.message != reason.message
        self._reason = reason
        if self._telling is None:
            self._since = self._clock.now()
            self._has_told = False
            self._telling = asyncio.create_task(self._remind())
        elif news:
            self._tell(self._clock.now() - self._since)

    def end(self) -> None:
        """There is a usable key again. Says so, if the pause was told."""
        if self._telling is not None:
            self.cancel()
            if self._has_told:
                self._emit(KeysBack(self._clock.now() - self._since))

    def cancel(self) -> None:
        """Ends the pause without a word: nobody waits any more."""
        if self._telling is not None:
            self._telling.cancel()
        self._telling = self._reason = None

    def _tell(self, waited_s: float) -> None:
        assert self._reason is not None  # begin sets it before anything is told
        self._has_told = True
        self._emit(KeysSpent(self._reason.message, self._hint, waited_s))

    async def _remind(self) -> None:
        self._tell(0.0)  # not in `begin`: the key whose loss began it is told first
        for waited_s in _moments_s(self._base_wait_s):
            if self._patience_s is not None and waited_s >= self._patience_s:
                break
            await self._sleep_until(self._since + waited_s)
            self._tell(waited_s)
        await self._sleep_until(self._since + (self._patience_s or 0.0))
        assert self._reason is not None  # cancel() ends this task
        reason, self._reason, self._telling = self._reason, None, None
        self._give_up(reason)

    async def _sleep_until(self, moment: float) -> None:
        await self._clock.sleep(max(0.0, moment - self._clock.now()))


def _moments_s(first_s: float) -> Iterator[float]:
    """1, 2, 4 ... times `first_s`, and later every day."""
    moment_s = first_s
    while True:
        yield moment_s
        moment_s += min(moment_s, LONGEST_SILENCE_S)
