"""The desk of a run: each call is answered here, out of the store, or asked once and stored.

There is one for all workers, wherever they live. So a question is asked once however many rows of
however many workers have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from gptflow.engine.caller import Send
from gptflow.engine.stored import stored_reply
from gptflow.errors import CallFailed
from gptflow.records import Call, Reply, RowResult, Usage
from gptflow.runner.events import CallAnswered, Listener


class Asker(Protocol):
    """What a desk needs of an engine."""

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        """The reply, or CallFailed; RunStopped where no call can be answered any more."""


class Archive(Protocol):
    """What a run needs of the store."""

    def find_reply(self, call_key: bytes) -> bytes | None:
        """The body of a stored reply that this run may reuse."""

    def save_reply(self, call: Call, reply: Reply) -> asyncio.Future[None]:
        """Resolves when the reply is on disk."""

    def save_result(self, result: RowResult) -> asyncio.Future[None]:
        """Resolves when the row's result, and all its replies, are on disk."""


class SenderLost(Exception):
    """Who was to send a call is gone, and what it was answered with it: it may be asked again."""

    def __init__(self, how: str, *, was_sent: bool) -> None:
        """`was_sent`: whether a server may have answered it, for money."""
        super().__init__(how)
        self.was_sent = was_sent


class Answer(NamedTuple):
    """What a call was answered with, by anybody at any time."""

    body: bytes
    reply: Reply | None = None
    """None where it came out of the store: whoever wants it reads the body."""


class Desk:
    """Answers the calls of a run. A new reply is on disk before it is given to anybody."""

    def __init__(self, asker: Asker, archive: Archive, emit: Listener) -> None:
        self._asker = asker
        self._archive = archive
        self._emit = emit
        self._asking: dict[bytes, asyncio.Future[Reply]] = {}
        self.on_reply: Callable[[], object] = lambda: None
        """Called when a reply has come that was paid, before it is on disk."""

    async def reply(self, call: Call, prefer: str | None) -> Reply:
        """As `answer`, for who has the call's messages, and wants to read the reply.

        Raises:
            StoreCorrupt: a stored one is none any more.
        """
        answer = await self.answer(call, prefer=prefer)
        return answer.reply or stored_reply(call, answer.body)

    async def answer(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Answer:
        """The answer to a call: out of the store, or asked once however many rows want it.

        A new one is on disk before it is given back, and its slot is held until then: so a crash
        costs at most the calls in flight. `prefer` and `send` are the engine's.

        Raises:
            CallFailed: there is no reply, and will be none.
            RunStopped: no call can be answered any more.
            StoreError: nothing can be written any more.
            SenderLost: by way of `send`.
        """
        while True:
            body = self._archive.find_reply(call.key)
            if body is not None:
                self._emit(CallAnswered(call.step, call.model, Usage(), reused=True))
                return Answer(body)
            asked = self._asking.get(call.key)
            if asked is None:
                reply = await self._told(call, self._ask(call, prefer, send), reused=False)
                return Answer(reply.body, reply)
            try:
                reply = await self._told(call, asyncio.shield(asked), reused=True)
            except SenderLost:
                continue
            return Answer(reply.body, reply)

    async def _told(self, call: Call, asked: Awaitable[Reply], *, reused: bool) -> Reply:
        try:
            reply = await asked
        except CallFailed as failed:
            if failed.reply is not None:  # a refusal is an answer too: it is paid, and reused
                self._emit(CallAnswered(call.step, call.model, failed.reply.usage, reused))
            raise
        self._emit(CallAnswered(call.step, call.model, reply.usage, reused))
        return reply

    async def _ask(self, call: Call, prefer: str | None, send: Send | None) -> Reply:
        asked = self._asking[call.key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._ask_and_store(call, prefer, send)
        except asyncio.CancelledError:  # of this row alone: the others ask for themselves
            asked.set_exception(SenderLost("who asked was cancelled", was_sent=False))
            asked.exception()
            raise
        except Exception as error:  # a bug too: the rows that wait for it must not wait for ever
            asked.set_exception(error)
            asked.exception()  # seen: there may be no other row that waits for it
            raise
        finally:
            del self._asking[call.key]
        asked.set_result(reply)
        return reply

    async def _ask_and_store(self, call: Call, prefer: str | None, send: Send | None) -> Reply:
        try:
            reply = await self._asker.ask(call, prefer=prefer, send=send)
        except CallFailed as failed:
            if failed.reply is not None:
                await self._archive.save_reply(call, failed.reply)
            raise
        saved = self._archive.save_reply(call, reply)
        self.on_reply()
        await saved
        return reply
