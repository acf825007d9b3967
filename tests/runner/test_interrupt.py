from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from gptflow.runner.interrupt import DRAIN_S, Interruption
from gptflow.runner.loop import outside_of_any_loop, run_coroutine


class Told:
    """What an interruption has asked for."""

    def __init__(self) -> None:
        self.drains = 0
        self.halts = 0
        self.interruption = Interruption(self._drain, self._halt)

    def _drain(self) -> None:
        self.drains += 1

    def _halt(self) -> None:
        self.halts += 1


async def signalled(told: Told, *numbers: int) -> None:
    with told.interruption.handling():
        for number in numbers:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains(number: int) -> None:
    told = Told()
    run_coroutine(signalled(told, number))
    assert (told.drains, told.halts, told.interruption.signal) == (1, 0, number)


def test_the_second_signal_halts_and_the_first_one_counts() -> None:
    told = Told()
    run_coroutine(signalled(told, signal.SIGTERM, signal.SIGINT, signal.SIGINT))
    assert (told.drains, told.halts, told.interruption.signal) == (1, 2, signal.SIGTERM)


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
        with told.interruption.handling():
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
        with told.interruption.handling():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run_coroutine, args=(look(),))
    thread.start()
    thread.join()
    assert seen == [before]


# ------------------------------------------------------------------ the loop that a run lives on


def test_work_inside_a_running_loop_goes_to_a_thread_of_its_own() -> None:
    async def cell() -> list[str]:
        return [outside_of_any_loop(lambda: threading.current_thread().name)]

    assert asyncio.run(cell()) == ["gptflow-run"]
    assert outside_of_any_loop(threading.current_thread) is threading.main_thread()


def test_an_error_comes_back_from_that_thread() -> None:
    def fail() -> None:
        raise ValueError("as it was")

    async def cell() -> None:
        outside_of_any_loop(fail)

    with pytest.raises(ValueError, match="as it was"):
        asyncio.run(cell())
