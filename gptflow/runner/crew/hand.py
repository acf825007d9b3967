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
from gptflow.errors import CallFailed, GptflowError
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
"""The same for one that says nothing at all: a function of the user's may hold up its loop."""


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


class _Errand:
    """A call that a worker may be told to send."""

    __slots__ = ("body", "number", "outcome", "overdue_at")

    def __init__(self, number: int) -> None:
        self.number = number
        self.outcome: asyncio.Future[Outcome] | None = None
        """What is waited for while it is on the wire."""
        self.overdue_at = 0.0
        """When the worker should have said long ago what came of it, by the loop's clock."""
        self.body: bytes | None = None
        """Of the reply that came."""


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
        self._keys: dict[int, tuple[int, KeyEntry]] = {}
        """By the entry's identity: the caller has one object for each deadline."""
        self._rows: dict[int, Inbox] = {}
        """What is said of the rows in its hands, by their positions."""
        self._errands: dict[int, _Errand] = {}
        self._answering: set[asyncio.Task[None]] = set()
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
        if now - self._heard_at > max(LEAST_SILENCE_S, _late_at(self._orders.begin.timeout_s)):
            return True
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
        inbox = self._rows[row.position] = Inbox()
        self._outbox.post(said.TakeRow(row.position, row.record, row.key, row.ordinal, row.raw))
        try:
            while True:
                message = await inbox.next()
                match message:
                    case said.RowEnd():
                        return result_of(row, message)
                    case said.RowBack():
                        raise pickle.loads(message.error)  # noqa: S301  # from our own worker
                    case _:
                        await self._answer(message)
        finally:
            del self._rows[row.position]

    def take(self, batch: bytes) -> None:
        """Takes a batch of the worker's messages."""
        self._heard_at = asyncio.get_running_loop().time()
        for message in said.for_run(batch):
            self._take(message)

    def lost(self, how: str) -> None:
        """The worker has ended: whoever waits for it is told."""
        self._is_gone = True
        gone = WorkerGone(how)
        if not self.ready.done():
            self.ready.set_exception(gone)
        for errand in self._errands.values():
            if errand.outcome is not None and not errand.outcome.done():
                errand.outcome.set_exception(SenderLost(how))
        for inbox in self._rows.values():
            inbox.fail(gone)

    async def close(self) -> None:
        """Lets the worker end. Calls on the wire are broken off."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        if self._link is not None:
            self._link.send(said.encoded([said.Stop()]))
            await self._link.close()

    def _send(self, batch: bytes) -> None:
        if self._link is not None and not self._is_gone:
            self._link.send(batch)

    def _take(self, message: Any) -> None:
        match message:
            case said.AskFor(is_beside=True):
                task = asyncio.create_task(self._answer(message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case said.Answered() | said.Responded() | said.Faulted():
                self._take_outcome(message)
            case said.Pong():
                pass  # it was heard
            case said.Progress():
                self._orders.on_progress(message)
            case said.Ready():
                self.ready.set_result(None)
            case said.Unfit():
                self.ready.set_exception(pickle.loads(message.error))  # noqa: S301  # as above
            case _:
                inbox = self._rows.get(message.position)
                if inbox is not None:  # else its lane was cancelled
                    inbox.put(message)

    def _take_outcome(self, message: said.Answered | said.Responded | said.Faulted) -> None:
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
        errand = self._errands[asked.call] = _Errand(asked.call)
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
        except GptflowError as error:
            self._outbox.post(said.Raise(asked.call, pickled(error)))
        except Exception as bug:  # noqa: BLE001  # it is the row's, which fails by it
            self._outbox.post(said.Raise(asked.call, pickled(bug)))
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
            raise SenderLost("the worker has ended")
        loop = asyncio.get_running_loop()
        errand.outcome = loop.create_future()
        timeout_s = key.timeout_s or self._orders.begin.timeout_s
        errand.overdue_at = loop.time() + _late_at(timeout_s)
        self._outbox.post(said.SendCall(errand.number, self._number(key)))
        return await errand.outcome

    def _number(self, key: KeyEntry) -> int:
        """The number by which the worker knows a key; it is told of it first."""
        known = self._keys.get(id(key))
        if known is not None:
            return known[0]
        number = len(self._keys)
        self._keys[id(key)] = number, key
        self._outbox.post(told_key(number, key, tells_secrets=self._orders.tells_keys))
        return number


def _late_at(timeout_s: float) -> float:
    """Seconds after which something with this deadline should have ended long ago."""
    return timeout_s + max(LATE_SHARE * timeout_s, LEAST_LATE_S)
