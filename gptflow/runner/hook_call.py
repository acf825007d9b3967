"""Calling a function of the user's that is a step: a blocking one in a thread, an async one here.

It may ask the model meanwhile. What it returns is looked at by the conversation that wanted it;
what it raises fails its row, and no other.
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
from gptflow.pipeline.hook import Hook, HookFault
from gptflow.records import Call, Reply
from gptflow.runner.hook_wrapper import HookWrapper

T = TypeVar("T")

Ask = Callable[[Call], Awaitable[Reply]]
"""Gets the reply to a call, which is on disk then."""


async def call_hook(wanted: HookCall, ask: Ask | None) -> Any:
    """What the function gives, whatever that is.

    Raises:
        HookFault: it has raised something.
        CallFailed: a call of it has no reply, and it has let that pass.
        RunStopped, StoreError: a call of it could not be answered, whatever it made of that.
    """
    hook = wanted.hook
    wrapper = HookWrapper(wanted, ask) if wanted.may_ask else None
    try:
        given = await _given(hook, wanted, wrapper)
    except HookFault as fault:
        if wrapper is not None:
            wrapper.raise_lost(fault.error)
        raise
    finally:
        if wrapper is not None:
            wrapper.close()
    if wrapper is not None:
        wrapper.raise_ended()
    return given


async def _given(hook: Hook, wanted: HookCall, wrapper: HookWrapper | None) -> Any:
    if hook.is_async:
        return await _watched(hook, _started(hook, wanted, wrapper))
    given = await in_thread(partial(hook.call, wanted.given, wrapper))
    if asyncio.iscoroutine(given):  # of a function that is none by its looks
        return await _watched(hook, given)
    return given


async def _started(hook: Hook, wanted: HookCall, wrapper: HookWrapper | None) -> Any:
    return await hook.start(wanted.given, wrapper)


async def _watched(hook: Hook, coroutine: Awaitable[Any]) -> Any:
    """What a coroutine of the user's gives."""
    try:
        return await coroutine
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise hook.fault(error) from None  # its own, not ours
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # it fails its row alone
        if isinstance(error, KeyboardInterrupt) and type(error) is not KeyboardInterrupt:
            raise  # a signal that has come meanwhile
        raise hook.fault(error) from None


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
