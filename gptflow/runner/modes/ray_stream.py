"""Batches as a stream of bytes: many small ones travel together, a large one in pieces.

What Ray is given stays below the size from which it would put it into its object store, which may
be written to a disk: rows, replies and keys have no business there. And a message with all that has
gathered costs Ray as much as one with a single batch: about a millisecond of CPU.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

PIECE_BYTES = 80_000
"""The most bytes of one message. From 100 KiB on Ray uses its object store:
https://docs.ray.io/en/latest/ray-core/objects.html"""

_LENGTH = struct.Struct("!I")


class Stream:
    """What is to be sent: it gathers here while the message before it is on its way.

    `crew.frames` finds the batches in it again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bytes = bytearray()
        self._filled = asyncio.Event()
        self._ended = False
        self._next_at = 0.0

    def put(self, batch: bytes) -> None:
        """Adds a batch. Nobody waits here: who sends holds back what is too much."""
        self._bytes += _LENGTH.pack(len(batch))
        self._bytes += batch
        self._filled.set()

    def end(self) -> None:
        """Nothing more will be added; what is there still goes out."""
        self._ended = True
        self._filled.set()

    async def piece(self, spacing_s: float) -> bytes | None:
        """The next piece to send; None when all is sent and nothing more will come.

        It comes `spacing_s` after the one before at the earliest, unless it is full: what is added
        meanwhile goes with it.
        """
        await self._filled.wait()
        wait_s = self._next_at - self._clock()
        if wait_s > 0 and len(self._bytes) < PIECE_BYTES and not self._ended:
            await asyncio.sleep(wait_s)
        self._next_at = self._clock() + spacing_s
        piece = bytes(self._bytes[:PIECE_BYTES])
        del self._bytes[:PIECE_BYTES]
        if not self._bytes and not self._ended:
            self._filled.clear()
        return piece or None
