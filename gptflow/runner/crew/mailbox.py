"""The worker's end of a line, whatever it is made of: batches are put in, and received in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Mailbox:
    """A port whose batches are put in by a callback of its event loop."""

    def __init__(self) -> None:
        self._batches: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.send: Callable[[bytes], None] = lambda _: None
        """Sends a batch to the run."""

    def put(self, batch: bytes) -> None:
        """A batch has come."""
        self._batches.put_nowait(batch)

    def end(self) -> None:
        """None will come any more."""
        self._batches.put_nowait(None)

    async def receive(self) -> bytes | None:
        """The next batch; None when there will be none."""
        return await self._batches.get()
