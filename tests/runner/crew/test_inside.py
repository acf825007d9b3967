"""What a worker answers to a run that it cannot work for, or not with everything."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gptflow import __version__
from gptflow.engine.config import KeyEntry
from gptflow.errors import ConfigError, GptflowError, RunStopped, UsageError
from gptflow.pipeline.compile import compile_plan
from gptflow.records import Failure, FailureKind
from gptflow.runner.crew import messages as said
from gptflow.runner.crew.inside import OwnKey, pickled, work
from gptflow.runner.crew.mailbox import Mailbox
from tests.project import loaded


class Run:
    """The other end of a worker's line."""

    def __init__(self, own_key: OwnKey | None) -> None:
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self.mailbox = Mailbox()
        self.mailbox.send = self._take
        self.worker = asyncio.create_task(work(self.mailbox, own_key))

    def _take(self, batch: bytes) -> None:
        for message in said.for_run(batch):
            self._heard.put_nowait(message)

    def say(self, *messages: Any) -> None:
        self.mailbox.put(said.encoded(list(messages)))

    async def hear(self) -> Any:
        async with asyncio.timeout(30):
            return await self._heard.get()


def with_run(talk: Callable[[Run], Awaitable[None]], own_key: OwnKey | None = None) -> None:
    async def whole() -> None:
        run = Run(own_key)
        await talk(run)
        run.mailbox.end()
        await run.worker

    asyncio.run(whole())


def words(error: bytes) -> GptflowError:
    made = pickle.loads(error)
    assert isinstance(made, GptflowError)
    return made


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ([[0, "9.8.7"]], "9.8.7"),
        ([[0, "9.8.7", {"of": "another kind"}, b"", 1, 2, 3, 4, 5]], "9.8.7"),
        ([[77, "0.1", None]], "0.1"),
        ({"hello": "there"}, "another one"),
        (7, "another one"),
    ],
)
def test_a_run_of_another_version_is_told_so_whatever_it_says(first: object, told: str) -> None:
    async def talk(run: Run) -> None:
        run.mailbox.put(msgspec.msgpack.encode(first))
        error = words((await run.hear()).error)
        assert type(error) is UsageError
        assert error.message == f"the worker has gptflow {__version__}, the run has {told}"
        assert error.hint == "install the same version on all machines"

    with_run(talk)


def begin_in(folder: Path) -> said.Begin:
    step = {"name": "one", "prompt": "1", "extract": {"f": "text"}}
    spec = {"name": "a", "source": {"range": 1}, "model": {"name": "m"}, "steps": [step]}
    (folder / "spec.yaml").write_text(json.dumps(spec))
    plan = compile_plan(loaded(folder / "spec.yaml"), columns=[])
    return said.Begin(__version__, pickle.dumps(plan), plan.digest, 1.0, 1, tells_messages=False)


def test_a_key_that_is_not_here_costs_the_key_and_neither_worker_nor_row(tmp_path: Path) -> None:
    def own_key(name: str) -> KeyEntry:
        raise ConfigError(f"node-7 has no key named {name!r}", hint="the same on every machine")

    async def talk(run: Run) -> None:
        run.say(begin_in(tmp_path))
        assert isinstance(await run.hear(), said.Ready)
        run.say(said.TakeRow(0, 0, b"k" * 16, 0, b"{}"))
        asked = await run.hear()
        run.say(said.KnowKey(3, "first", None, "http://127.0.0.1:9/v1", None, [], None))
        run.say(said.SendCall(asked.call, 3))
        fault = await run.hear()
        assert (fault.call, fault.message) == (asked.call, "node-7 has no key named 'first'")
        assert fault.hint == "the same on every machine"
        failure = Failure(FailureKind.REJECTED, "no key is left")
        run.say(said.NoReply(asked.call, failure, truncated=False))
        end = await run.hear()
        assert isinstance(end, said.RowEnd)
        assert end.failure is not None
        assert end.failure.message == "no key is left"

    with_run(talk, own_key)


class Unreadable(GptflowError):
    """Cannot be read back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class Unwritable(Exception):
    """Cannot be written."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError


def test_an_error_that_cannot_travel_arrives_with_its_words() -> None:
    error = words(pickled(Unreadable("it is so", hint="do that")))
    assert (type(error), error.message, error.hint) == (RunStopped, "it is so", "do that")
    assert words(pickled(Unwritable("why"))).message == "Unwritable: why"
