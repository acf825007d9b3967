"""Calling a function of the user's that is a step: a blocking one in a thread, an async one here.

It may ask the model meanwhile; what it has asked is waited for, for it may be paid. What it returns
is copied before anything else of the function runs; what it raises fails its row, and no other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from gptflow.pipeline.conversation import HookCall
from gptflow.pipeline.hook import Hook, HookFault, is_signal
from gptflow.records import Call, Fields, Reply
from gptflow.runner.hook_wrapper import HookWrapper

T = TypeVar("T")

Ask = Callable[[Call], Awaitable[Reply]]
"""Gets the reply to a call, which is on disk then."""


async def call_hook(wanted: HookCall, ask: Ask | None) -> Fields:
    """The fields that the function gives, when all that it has asked is answered.

    Raises:
        HookFault: it has raised something, or given something else.
        CallFailed: a call of it has no reply, and it has let that pass.
        RunStopped, StoreError: a call of it could not be answered, whatever it made of that.
    """
    if not wanted.may_ask:
        return await _fields(wanted, None)
    wrapper = HookWrapper(wanted, ask)
    try:
        async with wrapper:
            fields = await _fields(wanted, wrapper)
    except HookFault as fault:
        wrapper.raise_lost(fault.error)
        raise
    wrapper.raise_ended()
    return fields


async def _fields(wanted: HookCall, wrapper: HookWrapper | None) -> Fields:
    hook = wanted.hook
    if hook.is_async:
        return wanted.fields(await _watched(hook, _started(hook, wanted, wrapper)))

    def called() -> Any:
        given = hook.call(wanted.given, wrapper)
        return given if asyncio.iscoroutine(given) else wanted.fields(given)

    given = await in_thread(called)
    if asyncio.iscoroutine(given):  # of a function that is none by its looks
        return wanted.fields(await _watched(hook, given))
    fields: Fields = given
    return fields


async def _started(hook: Hook, wanted: HookCall, wrapper: HookWrapper | None) -> Any:
    return await hook.start(wanted.given, wrapper)


async def _watched(hook: Hook, coroutine: Awaitable[Any]) -> Any:
    """What a coroutine of the user's gives."""
    try:
        return await coroutine
    except BaseException as error:
        if is_signal(error) or _is_of_its_task(error):
            raise
        raise hook.fault(error) from None  # it fails its row alone


def _is_of_its_task(error: BaseException) -> bool:
    """Whether the task that waits is told to end, and the function has raised nothing itself."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # its loop is gone, and it is thrown away
        return True
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


async def in_thread(work: Callable[[], T]) -> T:
    """What a blocking function gives, from a thread of its own.

    Of its own: of a pool no more could wait for their replies than it has threads. A daemon: one
    that never ends must not keep the process from its end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(setter: Callable[[Any], None], value: Any) -> None:
        if not done.done():  # it may have been cancelled
            setter(value)

    def body() -> None:
        try:
            outcome = partial(tell, done.set_result, work())
        except BaseException as error:  # noqa: BLE001  # carried over to the loop
            outcome = partial(tell, done.set_exception, error)
        with suppress(RuntimeError):  # the run is over, and its loop closed
            loop.call_soon_threadsafe(outcome)

    threading.Thread(
        target=copy_context().run, args=(body,), name="gptflow-hook", daemon=True
    ).start()
    return await done
