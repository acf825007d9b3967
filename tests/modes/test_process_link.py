"""The line to one worker process: how it begins, and how its end is seen."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from gptflow import __version__
from gptflow.errors import WorkerFailed
from gptflow.runner.crew import messages as said
from gptflow.runner.loop import run_coroutine
from gptflow.runner.modes.process import GRACE_S, Processes, ProcessLink
from tests.modes.descriptors import free_descriptors, open_descriptors
from tests.modes.test_process import is_alive, workers_of


def on_a_loop(test: Coroutine[None, None, None]) -> None:
    """Runs a test on a loop as a run has it, and sees that it leaves nothing open or running."""
    run_coroutine(asyncio.sleep(0))  # libuv keeps a pipe from its first loop on
    files, children = open_descriptors(), set(workers_of(os.getpid()))
    run_coroutine(test)
    assert open_descriptors() <= files
    assert set(workers_of(os.getpid())) <= children


class Lost:
    """What was told of a worker's end."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._event = asyncio.Event()

    def __call__(self, how: str) -> None:
        self.told.append(how)
        self._event.set()

    async def seen(self) -> list[str]:
        async with asyncio.timeout(30):
            await self._event.wait()
        return self.told


async def hired(on_lost: Callable[[str], object] = lambda _: None) -> ProcessLink:
    return await Processes().hire(0, lambda _: None, on_lost)


@pytest.mark.parametrize("free", range(6))
def test_a_process_for_which_there_are_no_files_says_what_to_raise(free: int) -> None:
    async def test() -> None:
        with free_descriptors(free), pytest.raises(WorkerFailed) as failed:
            await hired()
        assert "no process can be started: Too many open files" in failed.value.message
        assert "raise the limit of open files (ulimit -n)" in str(failed.value)

    on_a_loop(test())


def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    async def test() -> None:
        before = workers_of(os.getpid())
        hiring = asyncio.create_task(hired())
        await asyncio.sleep(0)
        assert len(workers_of(os.getpid())) == len(before) + 1
        hiring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hiring

    on_a_loop(test())


def test_a_path_that_is_no_string_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(sys, "path", [Path("lib"), *sys.path])
        lost = Lost()
        link = await hired(lost)
        link.send(b"")  # is no first word: its start was well, and it is of no use
        assert await lost.seen() == ["ended with exit code 0"]
        await link.close()

    on_a_loop(test())


def test_a_death_is_seen_while_another_process_holds_the_line() -> None:
    async def test() -> None:
        lost = Lost()
        link = await hired(lost)
        link.send(said.encoded([begin_of(Holding())]))
        await asyncio.sleep(0)
        assert await lost.seen() == ["was killed by SIGKILL"]
        await link.close()

    on_a_loop(test())


def test_many_workers_that_do_not_end_are_ended_at_the_same_time() -> None:
    async def test() -> None:
        links = [await hired() for _ in range(24)]
        pids = workers_of(os.getpid())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        began_s = time.monotonic()
        await asyncio.gather(*[link.close() for link in links])
        assert time.monotonic() - began_s < 3 * GRACE_S
        assert not any(map(is_alive, pids))

    on_a_loop(test())


HOLDS = """
import os, signal, time
if os.fork() == 0:
    time.sleep(8)
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Holding:
    """Stands for a plan: who reads it has a child that holds all that it has, and dies."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (HOLDS,)


def begin_of(plan: object) -> said.Begin:
    return said.Begin(
        version=__version__,
        plan=pickle.dumps(plan),
        plan_digest="",
        timeout_s=1.0,
        connections=1,
        tells_messages=False,
    )
