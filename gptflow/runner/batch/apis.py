"""The Batch APIs of all keys, opened as they are needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gptflow.engine.clock import Clock
from gptflow.engine.config import KeyEntry
from gptflow.runner.batch.patience import Patience

if TYPE_CHECKING:
    from gptflow.engine.batch_api import BatchApi


class Apis:
    """One connection to each key's host, with the patience that requests are asked with."""

    def __init__(self, clock: Clock, *, timeout_s: float, outage_s: float) -> None:
        """`outage_s`: for how long a request is tried while no server answers."""
        self.clock = clock
        self.wall: Callable[[], float] = time.time
        self.patience = Patience(clock, outage_s)
        self.timeout_s = timeout_s
        self._open: dict[KeyEntry, BatchApi] = {}

    def of(self, key: KeyEntry) -> BatchApi:
        """The API of a key. Loading openai takes a second, once."""
        if key not in self._open:
            from gptflow.engine.batch_api import BatchApi

            self._open[key] = BatchApi(key, timeout_s=self.timeout_s)
        return self._open[key]

    async def aclose(self) -> None:
        """Closes all connections."""
        while self._open:
            _, api = self._open.popitem()
            await api.aclose()
