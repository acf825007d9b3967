"""A hand: one worker as the run sees it. Gives it rows, and answers the calls that these have.

A lane of the run that has handed out a row answers its calls itself, one after the other, until the
result comes: there is nothing else to wait for a call.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from gptflow.engine.caller import Outcome, Send
from gptflow.engine.config import KeyEntry
from gptflow.errors import CallFailed, RunStopped
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Row, RowResult
from gptflow.runner.crew import messages as said
from gptflow.runner.crew.inbox import Inbox
from gptflow.runner.crew.inside import pickled
from gptflow.runner.crew.link import Link
from gptflow.runner.crew.outbox import Outbox
from gptflow.runner.crew.reading import call_of, outcome_of, result_of, told_key
from gptflow.runner.desk import Answer, SenderLost

LATE_SHARE, LEAST_LATE_S = 0.25, 2.0
"""A worker that says nothing of a call so long after its deadline, as a share of that, hangs: it
has the deadline too, and keeps it."""
LEAST_SILENCE_S = 60.0
"""The same for one that says nothing at all; and for any whose loop a function of the user's may
hold up."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What all workers of a crew work by."""

    plan: Plan
    begin: said.Begin
    """The first word to each."""
    keys: tuple[str, ...]
    """Names of the API keys: each worker starts at its own."""
    tells_keys: bool = True
    """Whether workers are told the keys; else they find them by their names where they live."""
    on_progress: Callable[[said.Progress], object] = lambda _: None
    """Told how far rows have come that stand for many."""


class Answering(Protocol):
    """What a hand needs of a desk."""

    async def answer(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Answer:
        """As `Desk.answer`."""


class WorkerGone(Exception):
    """A worker has ended with a row in its hands."""

    def __init__(self, how: str, *, is_suspect: bool = False) -> None:
        """`is_suspect`: the row was all the worker's to go on with, and waited for nothing."""
        super().__init__(how)
        self.is_suspect = is_suspect


class _Errand:
    """A call that a worker may be told to send."""

    __slots__ = ("body", "number", "outcome", "overdue_at", "position")

    def __init__(self, number: int, position: int) -> None:
        self.number = number
        self.position = position
        """Of its row."""
        self.outcome: asyncio.Future[Outcome] | None = None
        """What is waited for while it is on the wire."""
        self.overdue_at = 0.0
        """When the worker should have said long ago what came of it, by the loop's clock."""
        self.body: bytes | None = None
        """Of the reply that came."""

    @property
    def is_with_run(self) -> bool:
        """Whether it is not the worker's turn: it waits for the run, or for a server."""
        return self.outcome is None or not self.outcome.done()


class Hand:
    """One worker, from its start to its end."""

    def __init__(self, orders: Orders, desk: Answering, first_key: str | None) -> None:
        """`first_key`: where its conversations begin, as long as that key has room."""
        self._orders = orders
        self._desk = desk
        self._first_key = first_key
        self._steps = {step.name: step for step in orders.plan.steps}
        self._link: Link | None = None
        self._is_gone = False
        self._heard_at = 0.0
        self._outbox = Outbox(self._send)
        self._keys: dict[KeyEntry, int] = {}
        """The keys that the worker knows, with its numbers for them."""
        self._rows: dict[int, Inbox] = {}
        """What is said of the rows in its hands, by their positions."""
        self._errands: dict[int, _Errand] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        """What is beside the conversations, by the number of the call."""
        self._takers: dict[type, Callable[[Any], object]] = {
            said.AskFor: self._take_question,
            said.Answered: self._take_outcome,
            said.Responded: self._take_outcome,
            said.Faulted: self._take_outcome,
            said.GivenUp: self._take_given_up,
            said.RowEnd: self._take_of_row,
            said.RowBack: self._take_of_row,
            said.Ready: self._take_readiness,
            said.Unfit: self._take_readiness,
            said.Progress: orders.on_progress,
            said.Pong: lambda _: None,  # it was heard
        }
        self.is_reserved = False
        """Whether it is to be given no other rows."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Resolves when it can take rows; raises the GptflowError why it never will."""

    @property
    def load(self) -> int:
        """Rows in its hands."""
        return len(self._rows)

    def begin(self, link: Link) -> None:
        """Says the first word to the worker at the other end."""
        self._link = link
        self._heard_at = asyncio.get_running_loop().time()
        link.send(said.encoded([self._orders.begin]))

    def is_silent(self) -> bool:
        """Whether the worker hangs, as it seems; it is asked to say something by the next time."""
        self._outbox.post(said.Ping())
        now = asyncio.get_running_loop().time()
        silence_s = now - self._heard_at
        if silence_s > max(LEAST_SILENCE_S, _late_at(self._orders.begin.timeout_s)):
            return True
        if self._orders.plan.has_hooks and silence_s < LEAST_SILENCE_S:
            return False
        return any(
            errand.outcome is not None and not errand.outcome.done() and errand.overdue_at < now
            for errand in self._errands.values()
        )

    async def converse(self, row: Row) -> RowResult:
        """Has a row brought to its result, and answers its calls meanwhile.

        Raises:
            WorkerGone: the worker has ended first.
            GptflowError: what concerns the run.
        """
        if self._is_gone:
            raise WorkerGone("has ended")
        inbox = self._rows[row.position] = Inbox()
        self._outbox.post(said.TakeRow(row.position, row.record, row.key, row.ordinal, row.raw))
        try:
            while True:
                message = await inbox.next()
                match message:
                    case said.RowEnd():
                        return result_of(row, message)
                    case said.RowBack():
                        raise _unpickled(message.error)
                    case _:
                        await self._answer(message)
        finally:
            del self._rows[row.position]

    def take(self, batch: bytes) -> None:
        """Takes a batch of the worker's messages."""
        self._heard_at = asyncio.get_running_loop().time()
        for message in said.for_run(batch):
            self._takers[type(message)](message)

    def lost(self, how: str) -> None:
        """The worker has ended: whoever waits for it is told."""
        self._is_gone = True
        waiting = {errand.position for errand in self._errands.values() if errand.is_with_run}
        if not self.ready.done():
            self.ready.set_exception(WorkerGone(how))
            self.ready.exception()  # seen: nobody may wait for it
        for errand in self._errands.values():
            if errand.outcome is not None and not errand.outcome.done():
                errand.outcome.set_exception(SenderLost(how, was_sent=True))
        for position, inbox in self._rows.items():
            inbox.fail(WorkerGone(how, is_suspect=position not in waiting))

    async def close(self) -> None:
        """Lets the worker end. Calls on the wire are broken off."""
        for task in self._answering.values():
            task.cancel()
        await asyncio.gather(*self._answering.values(), return_exceptions=True)
        if self._link is not None:
            self._link.send(said.encoded([said.Stop()]))
            await self._link.close()

    def _send(self, batch: bytes) -> None:
        if self._link is not None and not self._is_gone:
            self._link.send(batch)

    def _take_question(self, asked: said.AskFor) -> None:
        if not asked.is_beside:
            self._take_of_row(asked)
            return
        task = asyncio.create_task(self._answer(asked))
        self._answering[asked.call] = task
        task.add_done_callback(lambda _: self._answering.pop(asked.call))

    def _take_of_row(self, message: said.AskFor | said.RowEnd | said.RowBack) -> None:
        inbox = self._rows.get(message.position)
        if inbox is not None:  # else its lane was cancelled
            inbox.put(message)

    def _take_readiness(self, message: said.Ready | said.Unfit) -> None:
        if self.ready.done():
            return
        if isinstance(message, said.Unfit):
            self.ready.set_exception(_unpickled(message.error))
        else:
            self.ready.set_result(None)

    def _take_given_up(self, message: said.GivenUp) -> None:
        if message.call in self._answering:
            self._answering[message.call].cancel()

    def _take_outcome(self, message: said.Outcome) -> None:
        errand = self._errands.get(message.call)
        if errand is None or errand.outcome is None or errand.outcome.done():
            return  # its lane was cancelled
        if isinstance(message, said.Answered):
            errand.body = message.body
        errand.outcome.set_result(outcome_of(message))

    async def _answer(self, asked: said.AskFor) -> None:
        """Answers a call of the worker's: what is found is sent, else it is told to ask.

        Returns when a new reply is on disk. The worker has gone on with it by then: what it says of
        that row is heard later.
        """
        errand = self._errands[asked.call] = _Errand(asked.call, asked.position)
        try:
            answer = await self._desk.answer(
                call_of(asked, self._steps),
                prefer=asked.prefer or self._first_key,
                send=partial(self._have_sent, errand),
            )
        except CallFailed as failed:
            truncated = failed.reply is not None and failed.reply.truncated
            self._outbox.post(said.NoReply(asked.call, failed.failure, truncated))
        except SenderLost:
            pass  # the row is told of it, too
        except Exception as error:
            if errand.body is not None and not asked.is_beside:
                raise  # the worker has gone on with the reply: only the lane can still be told
            self._outbox.post(said.Raise(asked.call, pickled(error)))
        else:
            if answer.reply is None or answer.reply.body is not errand.body:
                self._outbox.post(said.Found(asked.call, answer.body))
            elif asked.is_beside:
                self._outbox.post(said.Kept(asked.call))
        finally:
            del self._errands[asked.call]

    async def _have_sent(self, errand: _Errand, key: KeyEntry) -> Outcome:
        """What comes of an attempt, which the worker makes."""
        if self._is_gone:
            raise SenderLost("the worker has ended", was_sent=False)
        loop = asyncio.get_running_loop()
        errand.outcome = loop.create_future()
        timeout_s = key.timeout_s or self._orders.begin.timeout_s
        errand.overdue_at = loop.time() + _late_at(timeout_s)
        self._outbox.post(said.SendCall(errand.number, self._number(key)))
        return await errand.outcome

    def _number(self, key: KeyEntry) -> int:
        """The number by which the worker knows a key; it is told of it first."""
        number = self._keys.get(key)
        if number is not None:
            return number
        number = self._keys[key] = len(self._keys)
        self._outbox.post(told_key(number, key, tells_secrets=self._orders.tells_keys))
        return number


def _unpickled(error: bytes) -> BaseException:
    """What a worker of ours has raised."""
    try:
        raised = pickle.loads(error)  # noqa: S301  # from a worker, which runs this program
    except Exception as unreadable:  # noqa: BLE001  # whatever a class may raise
        return RunStopped(f"a worker has failed in a way that cannot be read here: {unreadable}")
    return raised if isinstance(raised, BaseException) else RunStopped(f"a worker said {raised}")


def _late_at(timeout_s: float) -> float:
    """Seconds after which something with this deadline should have ended long ago."""
    return timeout_s + max(LATE_SHARE * timeout_s, LEAST_LATE_S)
