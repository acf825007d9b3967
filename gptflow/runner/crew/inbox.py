"""An inbox: what a worker says of one row, for the lane that has handed it out."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Inbox:
    """Messages in their order, for one reader."""

    __slots__ = ("_error", "_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    def put(self, message: Any) -> None:
        """A message has come."""
        self._messages.append(message)
        self._wake()

    def fail(self, error: Exception) -> None:
        """None will come any more: the reader is told when it has read those that did."""
        self._error = error
        self._wake()

    async def next(self) -> Any:
        """The next message. Raises what `fail` was given."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
