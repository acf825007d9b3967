from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gptflow.runner.interrupt import DRAIN_S, Interruption
from gptflow.runner.loop import outside_of_any_loop, run_coroutine
from gptflow.runner.signals import ECHO_S, SIGNALS


class Told:
    """What an interruption has asked for."""

    def __init__(self) -> None:
        self.drains = 0
        self.halts = 0
        self.interruption = Interruption()

    def handling(self) -> AbstractContextManager[None]:
        return self.interruption.handling(self._drain, self._halt)

    def _drain(self) -> None:
        self.drains += 1

    def _halt(self) -> None:
        self.halts += 1


async def signalled(told: Told, *numbers: int, gap_s: float = 1.5 * ECHO_S) -> None:
    with told.handling():
        for number in numbers:
            os.kill(os.getpid(), number)
            await asyncio.sleep(gap_s)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_drains(number: int) -> None:
    told = Told()
    run_coroutine(signalled(told, number))
    assert (told.drains, told.halts, told.interruption.signal) == (1, 0, number)


def test_the_second_signal_halts_and_the_first_one_counts() -> None:
    told = Told()
    run_coroutine(signalled(told, signal.SIGTERM, signal.SIGINT, signal.SIGINT))
    assert (told.drains, told.halts, told.interruption.signal) == (1, 2, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_comes_twice_at_once_is_one(number: int) -> None:
    told = Told()
    run_coroutine(signalled(told, number, number, gap_s=0.0))
    assert (told.drains, told.halts) == (1, 0)


def test_two_kinds_of_signal_at_once_are_two() -> None:
    told = Told()
    run_coroutine(signalled(told, signal.SIGINT, signal.SIGTERM, gap_s=0.01))
    assert (told.drains, told.halts) == (1, 1)


def test_a_terminal_that_is_gone_is_gone_once() -> None:
    told = Told()
    run_coroutine(signalled(told, signal.SIGHUP, signal.SIGHUP, signal.SIGHUP))
    assert (told.drains, told.halts, told.interruption.signal) == (1, 0, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_was_ignored_from_the_start_stays_ignored(number: int) -> None:
    told = Told()
    before = signal.signal(number, signal.SIG_IGN)
    try:
        run_coroutine(signalled(told, number))
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert told.drains == 0


def test_afterwards_signals_are_what_they_were() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run_coroutine(signalled(Told(), signal.SIGINT))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


class HandMovedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is moved by hand."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    async def advance(self, seconds: float) -> None:
        """Lets time pass, and what is due then happen."""
        self.now_s += seconds
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def drained_for(inside_s: float, afterwards_s: float = 0.0) -> Told:
    """What was asked for while a drain took so long, and after it had ended."""
    told = Told()
    loop = HandMovedLoop()

    async def drain() -> None:
        with told.handling():
            told.interruption.interrupt()
            await loop.advance(inside_s)
        await loop.advance(afterwards_s)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(drain())
    return told


def test_what_does_not_come_back_in_time_is_halted() -> None:
    assert drained_for(DRAIN_S - 1).halts == 0
    assert drained_for(DRAIN_S + 1).halts == 1


def test_a_drain_that_ends_in_time_is_not_halted_later() -> None:
    assert drained_for(DRAIN_S - 1, afterwards_s=2).halts == 0


def test_in_another_thread_signals_are_left_alone() -> None:
    told = Told()
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    async def look() -> None:
        with told.handling():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run_coroutine, args=(look(),))
    thread.start()
    thread.join()
    assert seen == [before]


# ------------------------------------------------------------------ the loop that a run lives on


def ignore() -> None:
    """For work that nobody interrupts."""


def test_work_inside_a_running_loop_goes_to_a_thread_of_its_own() -> None:
    async def cell() -> list[str]:
        return [outside_of_any_loop(lambda: threading.current_thread().name, ignore)]

    assert asyncio.run(cell()) == ["gptflow-run"]
    assert outside_of_any_loop(threading.current_thread, ignore) is threading.main_thread()


def test_an_error_comes_back_from_that_thread() -> None:
    def fail() -> None:
        raise ValueError("as it was")

    async def cell() -> None:
        outside_of_any_loop(fail, ignore)

    with pytest.raises(ValueError, match="as it was"):
        asyncio.run(cell())


NOTEBOOK = """
import asyncio, gptflow
from pathlib import Path

async def cell():
    server = gptflow.ServerChoice(mock=True, scenario=Path("slow.yaml"))
    result = gptflow.run("spec.yaml", server=server, progress=True)
    print(result.status, result.done, flush=True)

# As in a notebook, Ctrl-C raises KeyboardInterrupt in the main thread, inside a running loop.
asyncio.new_event_loop().run_until_complete(cell())
"""


def test_ctrl_c_in_a_notebook_ends_the_run_and_keeps_what_is_in_flight(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text("{latency: 300ms, log: requests.jsonl}")
    (tmp_path / "spec.yaml").write_text(
        "name: n\nsource: {range: 1000}\nmodel: {name: m, temperature: 0}\n"
        "steps: [{name: a, prompt: '{{ index }}', extract: {x: text}}]\n"
        "parallelism: {concurrency: 4}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    said, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    status, done = said.split()
    assert status == "interrupted"
    asked = (tmp_path / "requests.jsonl").read_text().count("\n")
    assert 0 < int(done) == asked
