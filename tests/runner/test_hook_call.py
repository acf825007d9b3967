"""A function that is a step is called: beside the loop or on it, with a wrapper that asks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from gptflow.errors import CallFailed, RunStopped, StoreError, UsageError
from gptflow.pipeline.conversation import HookCall
from gptflow.pipeline.hook import Hook, HookFault
from gptflow.pipeline.identity import CallIdentity
from gptflow.pipeline.plan import StepHook, StepPlan
from gptflow.records import Call, Failure, FailureKind, Reply, Row, Usage
from gptflow.runner.hook_call import call_hook, in_thread
from gptflow.runner.hook_wrapper import HookWrapper

PARAMS = {"seed": 3, "top_p": 0.5, "top_k": 4}
Given = Callable[..., Any]


def wanted(function: Given, key: bytes = b"k" * 16, *, is_async: bool = False) -> HookCall:
    """A step `own` that is `function`, about a row with this key."""
    hook = Hook("m:own", "step", function, __file__, "", takes_second=True, is_async=is_async)
    step = StepPlan(
        name="own",
        turns=(),
        when=None,
        model="spec-s",
        params=dict(PARAMS),
        identity=CallIdentity(endpoint="e", model="m", params={}, step="own"),
        extractors=(),
        reask=0,
        keep_invalid=False,
        python=StepHook(hook, ("a",), "chat/completions", ""),
    )
    return HookCall(step, Row(0, 0, key, 0, b"{}", {}), {"text": "it"})


class Desk:
    """Answers each call with its last message, and keeps it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[Call] = []
        self._error = error

    async def ask(self, call: Call) -> Reply:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        text = str(call.messages[-1]["content"]) if call.messages else "completed"
        body = b'{"choices":[{"index":0,"text":"a"},{"index":1,"text":"b"}],"model":"m"}'
        return Reply(text, "stop", Usage(), "m", body)


def called(function: Given, desk: Desk | None = None, **about: Any) -> Any:
    """The field that a function gives, or what it gives itself as that."""
    ask: Callable[[Call], Awaitable[Reply]] = (desk or Desk()).ask
    return asyncio.run(call_hook(wanted(as_field(function), **about), ask))["a"]


def as_field(function: Given) -> Given:
    @functools.wraps(function)
    def own(*given: object) -> Any:
        gave = function(*given)
        return _later(gave) if asyncio.iscoroutine(gave) else {"a": _plain(gave)}

    return own


async def _later(gave: Coroutine[Any, Any, Any]) -> dict[str, Any]:
    return {"a": _plain(await gave)}


def _plain(gave: object) -> object:
    return gave.text if isinstance(gave, Reply) else gave


def keys(function: Given, **about: Any) -> list[bytes]:
    desk = Desk()
    called(function, desk, **about)
    return [call.key for call in desk.calls]


def test_a_blocking_function_lets_the_loop_go_round() -> None:
    async def beside() -> int:
        turns = 0
        calling = asyncio.ensure_future(
            call_hook(wanted(as_field(lambda *_: time.sleep(0.2))), None)
        )
        while not calling.done():
            await asyncio.sleep(0.005)
            turns += 1
        return turns

    assert asyncio.run(beside()) > 3


def test_many_may_wait_at_once() -> None:
    meeting = threading.Barrier(40)

    async def all_at_once() -> None:
        await asyncio.gather(*(in_thread(lambda: meeting.wait(timeout=30)) for _ in range(40)))

    asyncio.run(all_at_once())


def test_a_function_without_end_holds_up_neither_the_loop_s_end_nor_the_process_s() -> None:
    asleep, before = threading.Event(), set(threading.enumerate())

    async def cancelled() -> None:
        calling = asyncio.ensure_future(in_thread(asleep.wait))
        await asyncio.sleep(0)
        calling.cancel()

    asyncio.run(cancelled())
    begun = set(threading.enumerate()) - before  # those of other tests may be at their last words
    (thread,) = [each for each in begun if each.name == "gptflow-hook"]
    assert thread.daemon
    asleep.set()
    thread.join()


def test_without_a_model_the_spec_s_is_asked_with_its_parameters() -> None:
    desk = Desk()
    called(lambda _, wrapper: wrapper.complete(messages="Hi", top_p=1), desk)
    (call,) = desk.calls
    assert (call.model, call.params) == ("spec-s", {"top_p": 1, "seed": 3, "top_k": 4})
    assert call.messages == [{"role": "user", "content": "Hi"}]
    assert call.step == "own"


def test_a_model_that_is_named_is_asked_with_what_is_given_alone() -> None:
    desk = Desk()
    called(lambda _, wrapper: wrapper.completions_with_backoff("m", "Hi", 0.5, 20), desk)
    (call,) = desk.calls
    assert (call.model, call.params) == ("m", {"temperature": 0.5, "max_tokens": 20})


def test_several_texts_come_as_a_list() -> None:
    def own(_: object, wrapper: HookWrapper) -> Any:
        return wrapper.completions_with_backoff("davinci-002", ["x", "y"])

    assert called(own) == ["a", "b"]


def test_an_answer_that_may_differ_is_of_its_row_and_of_its_turn() -> None:
    def twice(_: object, wrapper: HookWrapper) -> None:
        for _ in range(2):
            wrapper.complete("m", "Hi")

    assert len({*keys(twice), *keys(twice, key=b"other row 123456")}) == 4
    assert keys(twice) == keys(twice)


def test_an_answer_that_may_not_is_the_same_for_all() -> None:
    def twice(_: object, wrapper: HookWrapper) -> None:
        for _ in range(2):
            wrapper.complete("m", "Hi", temperature=0)

    assert len({*keys(twice), *keys(twice, key=b"other row 123456")}) == 1


async def own_async(_: object, wrapper: HookWrapper) -> str:
    first, second = await asyncio.gather(
        wrapper.acompletions_with_backoff("m", "a"), wrapper.acomplete("m", "b")
    )
    return str(first + second.text)


def test_an_async_function_asks_on_the_loop() -> None:
    assert called(own_async, is_async=True) == "ab"


def test_a_function_that_gives_a_coroutine_is_async_too() -> None:
    assert called(own_async) == "ab"


def test_a_loop_of_its_own_asks_as_well() -> None:
    assert called(lambda row, wrapper: asyncio.run(own_async(row, wrapper))) == "ab"


def test_asking_where_all_would_wait_is_refused() -> None:
    async def own(_: object, wrapper: HookWrapper) -> None:
        wrapper.complete("m", "Hi")

    with pytest.raises(HookFault, match="would hold up all rows"):
        called(own, is_async=True)


def test_nothing_is_asked_after_the_function_has_returned() -> None:
    kept: list[HookWrapper] = []

    async def late() -> None:
        await call_hook(wanted(as_field(lambda _, wrapper: kept.append(wrapper))), Desk().ask)
        await kept[0].acomplete("m", "Hi")

    with pytest.raises(UsageError, match="the function has returned"):
        asyncio.run(late())


LOST = CallFailed(Failure(FailureKind.REJECTED, "too long"))


def test_a_call_without_a_reply_fails_the_row_for_its_own_reason() -> None:
    with pytest.raises(CallFailed, match="too long"):
        called(lambda _, wrapper: wrapper.complete("m", "Hi"), Desk(LOST))


def test_a_function_that_fails_after_one_fails_by_itself() -> None:
    def own(_: object, wrapper: HookWrapper) -> None:
        with pytest.raises(CallFailed):
            wrapper.complete("m", "Hi")
        raise KeyError("x")

    with pytest.raises(HookFault, match="KeyError"):
        called(own, Desk(LOST))


@pytest.mark.parametrize("error", [RunStopped("enough"), StoreError("the disk is full")])
def test_what_ends_the_run_is_not_the_function_s_to_keep(error: Exception) -> None:
    def own(_: object, wrapper: HookWrapper) -> str:
        with pytest.raises(type(error)):
            wrapper.complete("m", "Hi")
        return "as if nothing had been"

    with pytest.raises(type(error)):
        called(own, Desk(error))


def test_being_cancelled_is_no_fault_of_the_function() -> None:
    async def sleeping(*_: object) -> None:
        await asyncio.sleep(60)

    async def cancelled() -> None:
        calling = asyncio.ensure_future(call_hook(wanted(sleeping, is_async=True), None))
        await asyncio.sleep(0.01)
        calling.cancel()
        await calling

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


class Panic(BaseException):
    """As some libraries have one."""


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), SystemExit(2), KeyboardInterrupt(), GeneratorExit(), Panic()],
)
def test_but_ending_itself_is(error: BaseException, *, is_async: bool) -> None:
    def own(*_: object) -> None:
        raise error

    async def own_async(*_: object) -> None:
        raise error

    with pytest.raises(HookFault, match=type(error).__name__):
        called(own_async if is_async else own, is_async=is_async)


def test_what_a_function_gives_is_no_longer_the_function_s() -> None:
    kept = {"a": [1]}
    given = []

    async def twice() -> None:
        for _ in range(2):
            given.append(await call_hook(wanted(lambda *_: kept), None))
            kept["a"].append(2)

    asyncio.run(twice())
    assert given == [{"a": [1]}, {"a": [1, 2]}]


class SlowDesk(Desk):
    """Answers when it is told to, or after a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.cancelled = 0

    async def ask(self, call: Call) -> Reply:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        reply = await super().ask(call)
        self.answered.append(reply.text)
        return reply


async def impatient(_: object, wrapper: HookWrapper) -> str:
    try:
        await asyncio.wait_for(wrapper.acomplete("m", "Hi"), 0.001)
    except TimeoutError:
        return "nobody came"
    return "an answer came"


async def leaving(_: object, wrapper: HookWrapper) -> str:
    left = asyncio.create_task(wrapper.acomplete("m", "Hi"))
    await asyncio.sleep(0.001)
    return str(left.done())


async def failing(_: object, wrapper: HookWrapper) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise KeyError("x")

    async with asyncio.TaskGroup() as group:
        group.create_task(wrapper.acomplete("m", "Hi"))
        group.create_task(fail())


def elsewhere(row: object, wrapper: HookWrapper) -> str:
    return asyncio.run(impatient(row, wrapper))


@pytest.mark.parametrize("function", [impatient, leaving, elsewhere])
def test_a_call_that_the_function_gives_up_is_answered_and_kept(function: Given) -> None:
    desk = SlowDesk()
    called(function, desk, is_async=function is not elsewhere)
    assert (desk.answered, desk.cancelled) == (["Hi"], 0)


def test_so_is_one_that_a_function_leaves_behind_when_it_fails() -> None:
    desk = SlowDesk()
    with pytest.raises(HookFault, match="ExceptionGroup"):
        called(failing, desk, is_async=True)
    assert (desk.answered, desk.cancelled) == (["Hi"], 0)


def waiting(_: object, wrapper: HookWrapper) -> str:
    return wrapper.complete("m", "Hi").text


@pytest.mark.parametrize("function", [leaving, waiting])
def test_with_the_run_s_own_end_its_calls_end_too(function: Given) -> None:
    desk = SlowDesk()

    async def cancelled() -> None:
        call = wanted(as_field(function), is_async=function is leaving)
        calling = asyncio.ensure_future(call_hook(call, desk.ask))
        await asyncio.sleep(0.05)
        calling.cancel()
        await calling

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert (desk.answered, desk.cancelled) == ([], 1)


def test_no_thread_waits_for_a_loop_that_is_closed() -> None:
    ended = threading.Event()

    def own(_: object, wrapper: HookWrapper) -> None:
        try:
            while True:
                with suppress(concurrent.futures.CancelledError):
                    wrapper.complete("m", "Hi")
        finally:
            ended.set()

    async def cancelled() -> None:
        calling = asyncio.ensure_future(call_hook(wanted(own), SlowDesk().ask))
        await asyncio.sleep(0.01)
        calling.cancel()

    asyncio.run(cancelled())
    assert ended.wait(timeout=30)


def test_the_spec_s_limit_of_tokens_is_not_sent_beside_another_of_the_function() -> None:
    desk = Desk()
    call = wanted(
        lambda _, wrapper: {"a": wrapper.complete(messages="x", max_completion_tokens=9).text}
    )
    call.step.params["max_tokens"] = 5
    asyncio.run(call_hook(call, desk.ask))
    assert desk.calls[0].params == {**PARAMS, "max_completion_tokens": 9}
