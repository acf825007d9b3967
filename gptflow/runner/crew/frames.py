"""Batches over a stream of bytes: each with its length before it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

_LENGTH = struct.Struct("!I")


class Frames(asyncio.Protocol):
    """One end of a stream socket that carries batches."""

    def __init__(self, on_batch: Callable[[bytes], object], on_end: Callable[[], object]) -> None:
        """`on_end` is called once, when the other end is gone, or this one was closed."""
        self._on_batch = on_batch
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()

    def send(self, batch: bytes) -> None:
        """Sends a batch; ignored where the other end is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines((_LENGTH.pack(len(batch)), batch))

    def close(self) -> None:
        """Ends the line, after what was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the line at once, with what is not sent yet."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's hook."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        """Asyncio's hook: bytes, cut anywhere."""
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, start)
            end = start + _LENGTH.size + length
            if len(received) < end:
                break
            batch = bytes(received[start + _LENGTH.size : end])
            start = end
            self._on_batch(batch)
        del received[:start]

    def connection_lost(self, _: Exception | None) -> None:
        """Asyncio's hook."""
        self._on_end()
