"""Gathers messages into batches: one system call for many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gptflow.runner.crew.messages import encoded

GATHER_S = 0.001
"""So long the first message of a batch waits for others. A tenth of a round trip in a data centre,
and far less than a model takes."""


class Outbox:
    """Posts messages over a line, in their order."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._messages: list[Any] = []

    def post(self, message: Any) -> None:
        """Sends it with the next batch."""
        if not self._messages:
            asyncio.get_running_loop().call_later(GATHER_S, self.flush)
        self._messages.append(message)

    def flush(self) -> None:
        """Sends what has gathered."""
        if self._messages:
            batch = encoded(self._messages)
            self._messages = []
            self._send(batch)
