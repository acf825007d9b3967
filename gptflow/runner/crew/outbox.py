"""Gathers messages into batches: one system call for many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gptflow.runner.crew.messages import encoded

GATHER_S = 0.0005
"""So long the first message waits for others, for each that the last batch had: with few of them
nobody waits, and with many a system call is for all."""
LONGEST_GATHER_S = 0.005


class Outbox:
    """Posts messages over a line, in their order."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._messages: list[Any] = []
        self._gather_s = GATHER_S

    def post(self, message: Any) -> None:
        """Sends it with the next batch."""
        if not self._messages:
            asyncio.get_running_loop().call_later(self._gather_s, self.flush)
        self._messages.append(message)

    def flush(self) -> None:
        """Sends what has gathered."""
        if self._messages:
            messages, self._messages = self._messages, []
            self._gather_s = min(GATHER_S * len(messages), LONGEST_GATHER_S)
            self._send(encoded(messages))
