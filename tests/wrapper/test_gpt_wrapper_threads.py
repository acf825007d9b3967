"""Many callers of one wrapper at the same time: threads, event loops, and those who give up."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from gptflow import GPTWrapper, UsageError

from .conftest import CHAT, Api, until

Serve = Callable[..., Api]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "gptflow"]


def test_many_threads_share_one_engine(serve: Serve) -> None:
    api = serve(latency="20ms")

    with api.wrapper() as wrapper, ThreadPoolExecutor(16) as pool:
        texts = [str(number) for number in range(64)]
        assert list(pool.map(lambda t: wrapper.completions_with_backoff("m", t), texts)) == texts
        assert len(threads()) == 1
    assert threads() == []


def test_it_can_be_called_inside_of_a_running_loop(wrapper: GPTWrapper) -> None:
    async def cell_of_a_notebook() -> str:
        return str(wrapper.completions_with_backoff(**CHAT))

    assert asyncio.run(cell_of_a_notebook()) == "hi"


def test_several_loops_share_one_engine(serve: Serve) -> None:
    api = serve(latency="20ms")

    async def ask(texts: list[str]) -> list[str]:
        calls = [wrapper.acompletions_with_backoff("m", text) for text in texts]
        return list(await asyncio.gather(*calls))

    with api.wrapper() as wrapper, ThreadPoolExecutor(3) as pool:
        batches = [[f"{loop}.{number}" for number in range(8)] for loop in range(3)]
        assert list(pool.map(lambda texts: asyncio.run(ask(texts)), batches)) == batches
        assert len(threads()) == 1


def test_a_task_that_is_cancelled_gives_up_its_call(serve: Serve) -> None:
    api = serve(failures=[{"name": "hang", "first": 1}])

    async def main() -> str:
        task = asyncio.create_task(wrapper.acompletions_with_backoff(**CHAT))
        await asyncio.to_thread(until, lambda: api.server.requests == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return str(await wrapper.acompletions_with_backoff(**CHAT))

    with api.wrapper() as wrapper:
        assert asyncio.run(main()) == "hi"


def test_a_timeout_around_a_call_ends_it(serve: Serve) -> None:
    api = serve(failures={"hang": "100%"})

    async def main() -> None:
        async with asyncio.timeout(0.1):
            await wrapper.acompletions_with_backoff(**CHAT)

    with api.wrapper() as wrapper, pytest.raises(TimeoutError):
        asyncio.run(main())


def test_closing_ends_the_calls_of_others(serve: Serve) -> None:
    api = serve(failures={"hang": "100%"})
    wrapper = api.wrapper()

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(wrapper.completions_with_backoff, **CHAT)
        until(lambda: api.server.requests == 1)
        wrapper.close()
        with pytest.raises(UsageError, match="the wrapper is closed"):
            call.result(10)


def test_a_wrapper_that_nobody_has_any_more_ends_its_thread(api: Api) -> None:
    wrapper = api.wrapper()
    wrapper.completions_with_backoff(**CHAT)
    twin = wrapper.starting_at(0)

    del wrapper
    gc.collect()
    assert twin.completions_with_backoff(**CHAT) == "hi"
    del twin
    gc.collect()
    until(lambda: threads() == [])


def test_an_error_that_is_kept_does_not_keep_the_wrapper(serve: Serve) -> None:
    api = serve(failures={"context_length_exceeded": "100%"})
    wrapper = api.wrapper()
    errors = []
    for _ in range(2):
        try:
            wrapper.completions_with_backoff(**CHAT)
        except Exception as error:  # noqa: BLE001  # any: it is kept without its traceback
            errors.append(error.with_traceback(None))
    del wrapper

    until(lambda: threads() == [])
    assert len(errors) == 2


def test_ctrl_c_ends_a_blocked_call_at_once(serve: Serve) -> None:
    api = serve(failures=[{"name": "hang", "match": "hang"}])
    process = api.start(
        """
for _ in range(3):
    try:
        ask("hang")
    except KeyboardInterrupt:
        print(ask("well"), flush=True)
"""
    )
    for count in (1, 3, 5):
        until(lambda wanted=count: api.server.requests == wanted)  # type: ignore[misc]  # mypy reads no default of a lambda
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (out, err, process.returncode) == ("well\n" * 3, "", 0)
    assert api.server.requests == 6


def test_ctrl_c_that_nobody_catches_ends_the_program(serve: Serve) -> None:
    api = serve(failures={"hang": "100%"})
    process = api.start("ask()")
    until(lambda: api.server.requests == 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_ends_the_wait_for_a_key(serve: Serve) -> None:
    api = serve(failures={"insufficient_quota": "100%"})
    process = api.start("try:\n    ask()\nexcept KeyboardInterrupt:\n    print('ended')")
    until(lambda: api.server.stats.answered == 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert (out, process.returncode) == ("ended\n", 0)
    assert "Traceback" not in err
