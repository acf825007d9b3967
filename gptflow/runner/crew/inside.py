"""The inside of a worker: takes rows, talks them through, and sends the calls that it may send."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Protocol

import msgspec

from gptflow import __version__
from gptflow.data.json_text import parse_object
from gptflow.engine.attempt import FaultKind
from gptflow.engine.config import KeyEntry
from gptflow.engine.open_client import open_client
from gptflow.engine.secret import Secret
from gptflow.errors import ConfigError, GptflowError, RunStopped, UsageError
from gptflow.pipeline.plan import Plan
from gptflow.records import Row
from gptflow.runner.crew import messages as said
from gptflow.runner.crew.away_desk import AwayDesk
from gptflow.runner.crew.link import Port
from gptflow.runner.crew.outbox import Outbox
from gptflow.runner.talk import Talk

OwnKey = Callable[[str], KeyEntry]
"""Finds a key by its name where the worker lives. Raises ConfigError."""


class Craft(Protocol):
    """What a worker does with a row in place of talking it through. It is pickled."""

    async def bring(
        self, taken: said.TakeRow, plan: Plan, desk: AwayDesk, post: Callable[[Any], None]
    ) -> said.RowEnd:
        """Brings it to its end. Raises GptflowError: what concerns the run."""


class _Inside:
    """One worker at work."""

    craft: Craft | None = None

    def __init__(self, plan: Plan, desk: AwayDesk, outbox: Outbox, own_key: OwnKey | None) -> None:
        self._desk = desk
        self._outbox = outbox
        self._own_key = own_key
        self._plan = plan
        self._rows: set[asyncio.Task[None]] = set()
        self._missing: dict[int, ConfigError] = {}
        """Why there are keys that the run knows and this place does not, by their numbers."""

    def take(self, message: Any) -> bool:
        """Takes a message. False: it was the last one."""
        match message:
            case said.TakeRow():
                task = asyncio.create_task(self._bring(message))
                self._rows.add(task)
                task.add_done_callback(self._rows.discard)
            case said.KnowKey():
                self._learn(message)
            case said.SendCall() if message.key in self._missing:
                # The call goes on waiting: it may be sent with another key.
                self._outbox.post(_unsent(message.call, self._missing[message.key]))
            case said.Ping():
                self._outbox.post(said.Pong())
            case said.Stop():
                return False
            case _:
                self._desk.take(message)
        return True

    async def end(self) -> None:
        """Breaks off what is in flight."""
        for task in self._rows:
            task.cancel()
        await asyncio.gather(*self._rows, return_exceptions=True)

    async def _bring(self, taken: said.TakeRow) -> None:
        """Brings a row to its result, or back."""
        try:
            if self.craft is None:
                end = await self._talk(taken)
            else:
                end = await self.craft.bring(taken, self._plan, self._desk, self._outbox.post)
        except GptflowError as error:
            self._outbox.post(said.RowBack(taken.position, pickled(error)))
            return
        except Exception as bug:  # noqa: BLE001  # who has handed it out must not wait for ever
            self._outbox.post(said.RowBack(taken.position, _broken(bug)))
            return
        self._outbox.post(end)

    async def _talk(self, taken: said.TakeRow) -> said.RowEnd:
        """Talks a row through."""
        position = taken.position
        columns = parse_object(taken.raw, ("the source", position + 1))
        row = Row(position, taken.record, taken.key, taken.ordinal, taken.raw, columns)
        result = await Talk(self._plan, partial(self._desk.reply, position)).converse(row)
        return said.RowEnd(position, result.fields, result.failure, result.calls, result.truncated)

    def _learn(self, told: said.KnowKey) -> None:
        try:
            self._desk.keys[told.number] = self._entry(told)
        except ConfigError as error:
            self._missing[told.number] = error

    def _entry(self, told: said.KnowKey) -> KeyEntry:
        if told.api_key is None:
            assert self._own_key is not None
            return self._own_key(told.name)
        return KeyEntry(
            name=told.name,
            api_key=Secret(told.api_key),
            base_url=told.base_url,
            organization=told.organization,
            headers=tuple((name, Secret(value)) for name, value in told.headers),
            timeout_s=told.timeout_s,
        )


async def work(port: Port, own_key: OwnKey | None = None) -> None:
    """The life of a worker: from the run's first word to its last, or to its death.

    Args:
        port: the line to the run.
        own_key: where the keys come from, if the run does not tell them.
    """
    batch = await port.receive()
    if batch is None:
        return
    outbox = Outbox(port.send)
    async with AsyncExitStack() as open_things:
        try:
            begin = _first_word(batch)
            plan = _plan(begin)
            craft = None
            if begin.craft is not None:
                craft = pickle.loads(begin.craft)  # noqa: S301  # from the run, as the plan
            client = open_client(timeout_s=begin.timeout_s, connections=begin.connections)
        except GptflowError as error:
            port.send(said.encoded([said.Unfit(pickled(error))]))
            return
        open_things.push_async_callback(client.aclose)
        desk = AwayDesk(plan, client, outbox, tells_messages=begin.tells_messages)
        inside = _Inside(plan, desk, outbox, own_key)
        if craft is not None:
            inside.craft = craft
            desk.keeps = True
        open_things.push_async_callback(inside.end)
        port.send(said.encoded([said.Ready()]))
        await _take_all(port, inside)


async def _take_all(port: Port, inside: _Inside) -> None:
    while (batch := await port.receive()) is not None:
        for message in said.for_worker(batch):
            if not inside.take(message):
                return


def _first_word(batch: bytes) -> said.Begin:
    """What the run begins with.

    Raises:
        UsageError: it has another version of gptflow, whose words may be others.
    """
    version = _version(batch)
    if version != __version__:
        raise UsageError(
            f"the worker has gptflow {__version__}, the run has {version}",
            hint="install the same version on all machines",
        )
    (begin,) = said.for_worker(batch)
    assert isinstance(begin, said.Begin)
    return begin


def _version(batch: bytes) -> str:
    """The run's version: it is the first that any version says."""
    try:
        ((_, version, *_),) = msgspec.msgpack.decode(batch, type=list[list[Any]])
    except (msgspec.DecodeError, ValueError):
        return "another one"
    return str(version)


def _plan(begin: said.Begin) -> Plan:
    """The run's plan, compiled here.

    Raises:
        GptflowError: it cannot be, or is another one: Python files of the user's differ here.
    """
    plan: Plan = pickle.loads(begin.plan)  # noqa: S301  # from the run that started this worker
    if plan.digest != begin.plan_digest:
        raise UsageError(
            "a worker compiles another plan than the run has compiled",
            hint="install the same versions of Python and of its packages on all machines",
        )
    return plan


def _broken(bug: BaseException) -> bytes:
    return pickle.dumps(RunStopped(f"a worker failed: {type(bug).__name__}: {bug}"))


def _unsent(call: int, error: ConfigError) -> said.Faulted:
    """What becomes of a call whose key is not here: the run takes that key out of service."""
    return said.Faulted(call, FaultKind.CERTIFICATE, error.message, error.hint, was_stopped=False)


def pickled(error: BaseException) -> bytes:
    """An exception, ready to travel: one that does not arrive as it was does so as RunStopped."""
    try:
        body = pickle.dumps(error)
        pickle.loads(body)  # noqa: S301  # it is from here
    except Exception:  # noqa: BLE001  # whatever a class may raise that does not pickle
        if isinstance(error, GptflowError):
            return pickle.dumps(RunStopped(error.message, hint=error.hint))
        return pickle.dumps(RunStopped(f"{type(error).__name__}: {error}"))
    return body
