"""Threads that cannot begin, and what is left of them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gptflow.errors import WorkerFailed
from gptflow.runner.modes.thread import Threads
from tests.modes.descriptors import free_descriptors


def workers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("gptflow-worker-")]


def test_a_thread_that_cannot_begin_says_why_and_nothing_else() -> None:
    lost: list[str] = []

    async def hire() -> None:
        with free_descriptors(1), pytest.raises(WorkerFailed) as failed:
            await Threads().hire(0, lambda _: None, lost.append)
        assert failed.value.message == "no thread can be started: Too many open files"
        assert "open files" in (failed.value.hint or "")
        await asyncio.sleep(0)
        assert lost == []

    asyncio.run(hire())
    assert not any(one.is_alive() for one in workers())


def test_a_start_that_is_cancelled_leaves_no_thread() -> None:
    async def hire() -> None:
        hiring = asyncio.create_task(Threads().hire(0, lambda _: None, lambda _: None))
        await asyncio.sleep(0)
        before = workers()
        assert len(before) == 1
        hiring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hiring
        await asyncio.to_thread(before[0].join, 10)
        assert not before[0].is_alive()

    asyncio.run(hire())
