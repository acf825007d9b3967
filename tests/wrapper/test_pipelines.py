from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptflow.errors import ConfigError, RunStopped, UsageError, WorkerFailed
from gptflow.wrapper.gpt_wrapper import GPTWrapper
from gptflow.wrapper.pipelines import multi_process_pipeline, multi_thread_pipeline
from tests.lark_server import LarkServer
from tests.wrapper import jobs
from tests.wrapper.desk import MODEL, Desk, desk_at


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path, keys=3) as desk:
        yield desk


@pytest.fixture
def lark() -> Iterator[LarkServer]:
    with LarkServer() as server:
        yield server


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 20])
def test_results_come_in_the_order_of_the_data_whatever_its_length(desk: Desk, count: int) -> None:
    results = multi_thread_pipeline(desk.config, 3, range(count), jobs.ask)
    assert results == [str(item) for item in range(count)]
    assert desk.asked() == sorted(results)


def test_each_thread_begins_at_its_own_key(desk: Desk) -> None:
    multi_thread_pipeline(desk.config, threads_num=4, data=["a", "b", "c", "d"], func=jobs.ask)
    keys = {str(entry.user): entry.key for entry in desk.entries}
    assert keys == {"a": "key0", "b": "key1", "c": "key2", "d": "key0"}


def test_threads_share_one_wrapper_and_its_connections(desk: Desk) -> None:
    loops: set[int | None] = set()

    def note(_: int, wrapper: GPTWrapper, chunk: list[Any]) -> list[Any]:
        wrapper.completions_with_backoff(MODEL, "x")
        loops.update(thread.ident for thread in threading.enumerate() if thread.name == "gptflow")
        return chunk

    multi_thread_pipeline(desk.config, 3, range(3), note)
    assert len(loops) == 1


def test_a_thread_that_cannot_start_is_the_error_that_is_raised(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError(f"can't start {thread.name}")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start gptflow-worker-0"):
        multi_thread_pipeline(desk.config, 2, range(4), jobs.ask)


def test_lambdas_closures_and_partials_do_in_threads(desk: Desk) -> None:
    factor = 3
    times = multi_thread_pipeline(
        desk.config, 2, [1, 2], lambda _pid, _wrapper, chunk: [factor * item for item in chunk]
    )
    assert times == [3, 6]
    partial = functools.partial(jobs.tell_all, k=1)
    assert multi_thread_pipeline(desk.config, 1, ["a"], partial) == [(0, "a", (), {"k": 1})]


def test_a_function_that_yields_its_results_will_do(desk: Desk) -> None:
    def each(_: int, __: GPTWrapper, chunk: list[int]) -> Iterator[int]:
        yield from chunk

    assert multi_thread_pipeline(desk.config, 2, range(5), each) == [0, 1, 2, 3, 4]


def test_a_list_of_another_length_than_its_chunk_is_taken_as_it_is(desk: Desk) -> None:
    results = multi_thread_pipeline(desk.config, 2, range(4), lambda _pid, _wrapper, c: [sum(c)])
    assert results == [1, 5]


def test_a_function_that_gives_no_list_is_an_error_that_says_so(desk: Desk) -> None:
    with pytest.raises(UsageError, match="give_nothing gave nothing for its chunk, not a list"):
        multi_thread_pipeline(desk.config, 2, range(4), jobs.give_nothing)
    with pytest.raises(UsageError, match="gave a str for its chunk"):
        multi_thread_pipeline(desk.config, 2, range(4), lambda *_: "text")


def test_an_exception_is_raised_with_its_own_traceback_after_the_others_were_stopped(
    desk: Desk,
) -> None:
    has_called = threading.Event()
    ended: list[BaseException] = []

    def call_on(_: int, wrapper: GPTWrapper, chunk: list[str]) -> list[str]:
        if chunk == ["bad"]:
            has_called.wait(20)
            raise LookupError("the bad item")
        try:
            while True:
                wrapper.completions_with_backoff(MODEL, "again")
                has_called.set()
        except RunStopped as stopped:
            ended.append(stopped)
            raise

    with pytest.raises(LookupError, match="the bad item") as caught:
        multi_thread_pipeline(desk.config, 2, ["good", "bad"], call_on)
    assert caught.traceback[-1].name == "call_on"
    assert len(ended) == 1
    assert not [t for t in threading.enumerate() if t.name.startswith("gptflow-worker")]


def test_a_pipeline_that_waits_for_its_threads_says_first_what_failed(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def told(_: logging.LogRecord) -> bool:
        over.set()
        return True

    def work(_: int, __: GPTWrapper, chunk: list[str]) -> list[str]:
        if chunk == ["bad"]:
            raise LookupError("the bad item")
        over.wait(20)
        return chunk

    caplog.handler.addFilter(told)
    with pytest.raises(LookupError):
        multi_thread_pipeline(desk.config, 2, ["good", "bad"], work)
    (message,) = caplog.messages
    assert message.startswith("a worker failed (LookupError: the bad item): the pipeline ends; ")
    assert "30 s" in message


def test_a_function_that_closes_its_wrapper_and_fails_is_told_as_it_failed(desk: Desk) -> None:
    def fail(_: int, wrapper: GPTWrapper, __: list[int]) -> list[int]:
        wrapper.close()
        raise LookupError("the bad item")

    with pytest.raises(LookupError):
        multi_thread_pipeline(desk.config, 2, [1, 2], fail)


def test_ctrl_c_stops_the_threads(desk: Desk) -> None:
    ended = threading.Event()

    def call_on(_: int, wrapper: GPTWrapper, __: list[int]) -> list[int]:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            while True:
                wrapper.completions_with_backoff(MODEL, "again")
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        multi_thread_pipeline(desk.config, 1, [1], call_on)
    assert ended.is_set()


def test_a_thread_that_calls_sys_exit_does_not_end_the_program(desk: Desk) -> None:
    with pytest.raises(WorkerFailed, match=r"worker 0 ended: .* called sys.exit\(3\)"):
        multi_thread_pipeline(desk.config, 1, [1], lambda *_: sys.exit(3))


def test_the_hook_among_kwargs_is_told_of_start_and_end_and_not_handed_on(
    desk: Desk, lark: LarkServer
) -> None:
    kwargs = {"lark_hook": lark.hook, "k": 1}
    results = multi_thread_pipeline(desk.config, 2, ["a"], jobs.tell_all, kwargs=kwargs)
    assert results == [(0, "a", (), {"k": 1})]
    assert kwargs == {"lark_hook": lark.hook, "k": 1}, "the caller's own dict was changed"
    began, ended = lark.wait_for(2)
    assert began.startswith("tell_all started")
    assert began.endswith("1 item on 1 thread")
    assert ended.startswith("tell_all finished after")
    assert ended.endswith("returned '1 results'")


def test_the_hook_is_told_of_a_crash(desk: Desk, lark: LarkServer) -> None:
    def fail(*_: Any) -> list[Any]:
        raise LookupError("the bad item")

    with pytest.raises(LookupError):
        multi_thread_pipeline(desk.config, 1, ["a"], fail, lark_hook=lark.hook)
    _, crash = lark.wait_for(2)
    assert "crashed after" in crash
    assert "LookupError: the bad item" in crash


@pytest.mark.parametrize("pipeline", [multi_thread_pipeline, multi_process_pipeline])
def test_arguments_that_do_not_fit_are_errors_before_anything_starts(
    desk: Desk, pipeline: Any
) -> None:
    for told, given in [
        ("_num is missing", {"data": [1], "func": jobs.ask}),
        ("_num is 0", {"data": [1], "func": jobs.ask, "num": 0}),
        ("_num is True", {"data": [1], "func": jobs.ask, "num": True}),
        ("func is None, not a function", {"data": [1], "num": 1}),
        ("data is one str", {"data": "text", "func": jobs.ask, "num": 1}),
        ("data is one NoneType", {"func": jobs.ask, "num": 1}),
        ("args is one int, not a list", {"data": [1], "func": jobs.ask, "num": 1, "args": 5}),
        ("args is one str", {"data": [1], "func": jobs.ask, "num": 1, "args": "text"}),
        ("kwargs is one list", {"data": [1], "func": jobs.ask, "num": 1, "kwargs": [1]}),
        ("no argument 'worker_num'\nHint: did", {"data": [1], "func": jobs.ask, "worker_num": 2}),
        ("no argument 'k'\nHint: what func", {"data": [1], "func": jobs.ask, "num": 1, "k": 2}),
    ]:
        count = given.pop("num", None)
        with pytest.raises(UsageError, match=told):
            pipeline(desk.config, count, **given)
    with pytest.raises(ConfigError):
        pipeline(desk.folder / "none.json", 1, [], jobs.ask)
    assert desk.asked() == []


def test_two_names_of_the_count_must_say_the_same(desk: Desk) -> None:
    told = "process_num is 2 and processes_num is 3: they mean the same"
    with pytest.raises(UsageError, match=told):
        multi_process_pipeline(desk.config, 2, [], jobs.ask, processes_num=3)
    assert multi_process_pipeline(desk.config, 2, [], jobs.ask, processes_num=2) == []
    with pytest.raises(UsageError, match="did you mean 'process_num'"):
        multi_process_pipeline(desk.config, data=[], func=jobs.ask, threads_num=2)


def test_no_data_is_no_work(desk: Desk) -> None:
    assert multi_process_pipeline(desk.config, process_num=4, data=[], func=jobs.ask) == []
    assert multi_thread_pipeline(desk.config, thread_num=4, data=iter([]), func=jobs.ask) == []
