from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gptflow.wrapper.portal import Portal
from gptflow.wrapper.portal_call import PortalClosed


class Service:
    """Counts what is done with it, and is told when it ends."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.threads: set[int] = set()

    @contextlib.asynccontextmanager
    async def enter(self) -> AsyncIterator[Service]:
        self.opened += 1
        yield self
        self.closed += 1

    async def work(self, value: int) -> int:
        self.threads.add(threading.get_ident())
        await asyncio.sleep(0)
        return value


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def portal(service: Service) -> Iterator[Portal[Service]]:
    portal = Portal(service.enter)
    yield portal
    portal.close()


def test_nothing_starts_before_the_first_call(portal: Portal[Service], service: Service) -> None:
    assert service.opened == 0
    assert portal.run(lambda s: s.work(1)) == 1
    assert service.opened == 1


def test_many_first_callers_start_one_thread(portal: Portal[Service], service: Service) -> None:
    with ThreadPoolExecutor(16) as pool:
        values = list(pool.map(lambda n: portal.run(lambda s: s.work(n)), range(64)))

    assert values == list(range(64))
    assert (service.opened, len(service.threads)) == (1, 1)
    assert threading.get_ident() not in service.threads


def test_closing_leaves_the_service_in_its_own_loop(
    portal: Portal[Service], service: Service
) -> None:
    portal.run(lambda s: s.work(1))
    portal.close()
    portal.close()

    assert service.closed == 1
    with pytest.raises(PortalClosed):
        portal.run(lambda s: s.work(1))


def test_an_error_is_raised_in_the_caller_s_thread(portal: Portal[Service]) -> None:
    async def fail(_: Service) -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        portal.run(fail)
    with pytest.raises(LookupError, match="here"):
        asyncio.run(portal.arun(fail))


def test_a_service_that_cannot_open_is_told_to_each_caller() -> None:
    @contextlib.asynccontextmanager
    async def enter() -> AsyncIterator[None]:
        raise LookupError("no service")
        yield

    async def nothing(_: None) -> None: ...

    portal = Portal(enter)
    for _ in range(2):
        with pytest.raises(LookupError, match="no service"):
            portal.run(nothing)
    with pytest.raises(LookupError, match="no service"):
        asyncio.run(portal.arun(nothing))


def test_a_thread_that_cannot_begin_is_told_to_each_caller(
    portal: Portal[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the interpreter is at its end")

    monkeypatch.setattr(atexit, "register", fail)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="at its end"):
            portal.run(lambda s: s.work(1))


def test_closing_cancels_what_is_in_flight(portal: Portal[Service]) -> None:
    is_there, was_cancelled = threading.Event(), threading.Event()

    async def wait(_: Service) -> None:
        is_there.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            was_cancelled.set()
            raise

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(portal.run, wait)
        is_there.wait(10)
        portal.close()
        with pytest.raises(PortalClosed):
            call.result(10)
    assert was_cancelled.is_set()


def test_letting_go_before_the_first_call_starts_nothing(
    portal: Portal[Service], service: Service
) -> None:
    portal.let_go()

    with pytest.raises(PortalClosed):
        portal.run(lambda s: s.work(1))
    assert service.opened == 0


def test_a_caller_s_loop_that_ends_early_harms_nobody(portal: Portal[Service]) -> None:
    go_on = threading.Event()

    async def wait(service: Service) -> int:
        await asyncio.to_thread(go_on.wait, 10)
        return await service.work(1)

    loop = asyncio.new_event_loop()
    task = loop.create_task(portal.arun(wait))
    with contextlib.suppress(TimeoutError):
        loop.run_until_complete(asyncio.wait_for(asyncio.shield(task), 0.05))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    go_on.set()

    assert portal.run(lambda s: s.work(2)) == 2
