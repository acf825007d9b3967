"""Sends what ASGI cannot: answers that break off, hang, crawl, or are not HTTP at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from gptflow.mock.failure.model import Cut, Ending, Framing, Header

TRANSPORT = "gptflow.transport"
"""The name under which a request's scope has its connection; the server puts it there."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_LONG_HEADER_BYTES = 2_000_000
_BEFORE_RESET_S = 0.02
"""A reset discards what the client has not read yet: let it read the part that it is to see."""
_NO_LINGER = struct.pack("ii", 1, 0)
"""With this a closing socket sends RST in place of FIN."""


async def left_within(receive: Receive, wait_s: float) -> bool:
    """Wait; True as soon as the client has left. Only after the whole request was received."""
    try:
        async with asyncio.timeout(wait_s):
            await receive()
    except TimeoutError:
        return False
    return True


class Line:
    """One request's connection, below HTTP."""

    def __init__(self, transport: asyncio.Transport, receive: Receive) -> None:
        self._transport = transport
        self._receive = receive

    async def send(
        self, status: int, headers: list[Header], body: bytes | bytearray, cut: Cut
    ) -> bool:
        """Send as much as the cut allows, and return when the client has left or has it all.

        True: the whole answer was handed to the connection.
        """
        sent = body[: int(len(body) * cut.body_share)]
        self._transport.write(_head(status, headers, len(body), cut.framing))
        for place in range(min(cut.drip_bytes, len(sent))):
            if await self._is_over_within(cut.pause_s):
                return False
            self._transport.write(sent[place : place + 1])
        self._transport.write(_framed(sent[cut.drip_bytes :], cut.framing))
        await self._end(cut.ending)
        return len(sent) == len(body) and cut.framing is not Framing.NONE

    async def _is_over_within(self, wait_s: float) -> bool:
        """Wait; True if the connection ends: by the client, or since the server leaves its port."""
        if await left_within(self._receive, wait_s):
            return True
        if not self._transport.is_closing():
            return False
        await self._receive()
        return True

    async def _end(self, ending: Ending) -> None:
        """End as told. Waits for the client, since uvicorn sends a 500 on what looks alive."""
        if ending is Ending.RESET and not await self._is_over_within(_BEFORE_RESET_S):
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()
        elif ending is Ending.CLOSE:
            self._transport.close()
        await self._receive()


def _head(status: int, headers: list[Header], body_bytes: int, framing: Framing) -> bytes:
    if framing is Framing.NONE:
        return b""
    frames = {
        Framing.LENGTH: (b"content-length", b"%d" % body_bytes),
        Framing.LONG_HEADER: (b"content-length", b"%d" % body_bytes),
        Framing.CHUNKED: (b"transfer-encoding", b"chunked"),
        Framing.CLOSE: (b"connection", b"close"),
    }
    all_headers = [*headers, frames[framing]]
    if framing is Framing.LONG_HEADER:
        all_headers.append((b"x-long", b"x" * _LONG_HEADER_BYTES))
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%s: %s" % header for header in all_headers]
    return b"\r\n".join([*lines, b"", b""])


def _framed(content: bytes | bytearray, framing: Framing) -> bytes | bytearray:
    return b"%x\r\n%s\r\n" % (len(content), content) if framing is Framing.CHUNKED else content
