"""The till: each call passes it before it is asked, and pays when it is answered."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from gptflow.engine.caller import Send
from gptflow.errors import CallFailed, RunStopped
from gptflow.records import Call, Reply
from gptflow.runner.budget import Budget
from gptflow.runner.desk import Asker, SenderLost
from gptflow.runner.drive import Drained
from gptflow.runner.purse import Purse, Quote, Room


class _Waiter(NamedTuple):
    quote: Quote
    turn: asyncio.Future[float]
    """Resolves to what is reserved."""


class Till:
    """Stands before an engine. Calls for which there may be room later wait in line.

    None waits for ever: whoever waits does so for a call in flight, and each of these moves the
    line when it ends, whatever came of it.
    """

    def __init__(self, purse: Purse, budget: Budget, asker: Asker, engine: Drained) -> None:
        """Build a till.

        Args:
            purse: the money.
            budget: is told when there is no room for a call.
            asker: whom the calls are for.
            engine: what is drained along with the line.
        """
        self._purse = purse
        self._budget = budget
        self._asker = asker
        self._engine = engine
        self._line: deque[_Waiter] = deque()
        self._draining: RunStopped | None = None

    @property
    def in_line(self) -> int:
        """Calls that wait for others to turn out cheaper."""
        return len(self._line)

    @property
    def in_flight(self) -> int:
        """Calls that are on the wire."""
        return self._engine.in_flight

    def drain(self, reason: RunStopped) -> None:
        """Lets the calls fail with `reason` that have to wait, here or in the engine."""
        self._draining = reason
        self._fail(reason)
        self._engine.drain(reason)

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        """The engine's reply, if there is room for the call.

        Raises:
            CallFailed: there is no reply, and will be none.
            RunStopped: there is no room, or no call can be answered any more.
        """
        quote = self._purse.quote(call)
        reserved_usd = await self._reserve(quote)
        try:
            reply = await self._asker.ask(call, prefer=prefer, send=send)
        except SenderLost as lost:
            if lost.was_sent:
                self._purse.write_off(reserved_usd)
            raise
        except CallFailed as failed:
            if failed.reply is not None:
                self._purse.pay(quote, failed.reply)
            raise
        else:
            self._purse.pay(quote, reply)
            return reply
        finally:
            self._give_back(reserved_usd)

    async def _reserve(self, quote: Quote) -> float:
        usd = self._purse.expected_usd(quote)
        room = self._purse.room(usd) if not self._line else Room.LATER
        match room:
            case Room.FREE:
                self._purse.reserve(usd)
                return usd
            case Room.NONE:
                raise self._stop(usd)
            case Room.LATER if self._draining:
                raise self._draining.again()
        return await self._wait(quote)

    async def _wait(self, quote: Quote) -> float:
        waiter = _Waiter(quote, asyncio.get_running_loop().create_future())
        self._line.append(waiter)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            turn = waiter.turn
            if turn.done() and not turn.cancelled() and not turn.exception():
                self._give_back(turn.result())
            elif waiter in self._line:
                self._line.remove(waiter)
                self._move()  # the next one may be smaller
            raise

    def _give_back(self, usd: float) -> None:
        self._purse.give_back(usd)
        self._move()

    def _move(self) -> None:
        """Serves the line as far as there is room."""
        while self._line:
            quote, turn = self._line[0]
            if turn.done():  # its row was cancelled
                self._line.popleft()
                continue
            usd = self._purse.expected_usd(quote)  # anew: replies have told more meanwhile
            room = self._purse.room(usd)
            if room is Room.LATER:
                return
            if room is Room.NONE:
                self._fail(self._stop(usd))
                return
            self._line.popleft()
            self._purse.reserve(usd)
            turn.set_result(usd)

    def _stop(self, usd: float) -> RunStopped:
        purse = self._purse
        return self._budget.reach_cost(purse.spent_usd, purse.reserved_usd, usd)

    def _fail(self, reason: RunStopped) -> None:
        while self._line:
            turn = self._line.popleft().turn
            if not turn.done():
                turn.set_exception(reason.again())
