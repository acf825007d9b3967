"""lark_sender: a decorator that tells Lark when a function starts, ends and crashes."""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from gptflow.notify.lark import LarkBot
from gptflow.notify.messenger import Messenger
from gptflow.notify.quote import quoted, without_tokens

P = ParamSpec("P")
R = TypeVar("R")

MOST_RETURN = 300
MOST_TRACEBACK = 1_500
"""Characters of a return value, and of a traceback's end, that a message has."""


def lark_sender(
    webhook_url: str | LarkBot | None = None,
    content: str | None = None,
    *,
    secret: str | None = None,
    keyword: str = "",
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Tells a Lark group when the decorated function starts, returns and crashes.

        @lark_sender()
        def train(): ...

    The message at the end has the duration and the return value, shortened; that of a crash has
    the traceback's last lines, and the exception is raised on. Messages are sent in the background
    and never hurt or slow the function: a hook that takes none costs one Python warning, and at
    most three seconds when the process ends.

    Args:
        webhook_url: the hook, or a bot that has one; else that in LARK_HOOK.
        content: a line that is put into each message.
        secret: signs; else LARK_SECRET.
        keyword: put before each message, for bots that only take messages with a keyword.

    Raises:
        ValueError: there is no hook, or it is not one.
        TypeError: decorates what is no function, or is a generator.
    """
    if callable(webhook_url):
        raise TypeError("write @lark_sender(), with parentheses")
    bot = webhook_url
    if not isinstance(bot, LarkBot):
        bot = LarkBot(bot, secret=secret, keyword=keyword)
    messenger = Messenger(bot)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return _told(function, messenger, content)

    return decorate


def _told(function: Callable[P, R], messenger: Messenger, content: str | None) -> Callable[P, R]:
    _check(function)
    name = getattr(function, "__qualname__", type(function).__qualname__)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def told_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            with _telling(messenger, name, content) as call:
                call.result = await function(*args, **kwargs)
            return call.result

        return told_async  # type: ignore[return-value]  # R is the coroutine's type

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        with _telling(messenger, name, content) as call:
            call.result = function(*args, **kwargs)
        return call.result  # type: ignore[no-any-return]

    return told


def _check(function: object) -> None:
    if isinstance(function, classmethod | staticmethod):
        raise TypeError(f"put @lark_sender() below @{type(function).__name__}")
    if not callable(function) or inspect.isclass(function):
        raise TypeError("@lark_sender() decorates functions and methods")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            "@lark_sender() does not decorate generators: they run only while someone asks for "
            "the next value. Decorate the function that does."
        )


@dataclass(slots=True)
class _Call:
    result: Any = None


@contextmanager
def _telling(messenger: Messenger, name: str, content: str | None) -> Iterator[_Call]:
    """Tells how the body starts and ends. Whatever it raises goes on as it is."""
    began_s = time.monotonic()
    where = f"{socket.gethostname()}, process {os.getpid()}"

    def tell(happened: str, *details: str) -> None:
        lines = [f"{name} {happened}", where, content, *details]
        messenger.post("\n".join(line for line in lines if line))

    call = _Call()
    tell("started")
    try:
        yield call
    except BaseException as error:
        tell(*_ending(error, _duration(time.monotonic() - began_s)))
        raise
    tell(
        f"finished after {_duration(time.monotonic() - began_s)}",
        f"returned {_described(call.result)}",
    )


def _ending(error: BaseException, after: str) -> tuple[str, ...]:
    """What to say of an exception, with the end of its traceback if it is a crash."""
    if isinstance(error, KeyboardInterrupt):
        return (f"was interrupted after {after}",)
    if isinstance(error, SystemExit) and not error.code:
        return (f"ended the process after {after}",)
    if not isinstance(error, Exception | SystemExit):
        return (f"was ended by {type(error).__name__} after {after}",)
    # The first two frames are those of this file.
    trace = error.__traceback__ and error.__traceback__.tb_next
    trace = trace and trace.tb_next
    lines = traceback.format_exception(type(error), error, trace, limit=-8)
    whole = without_tokens("".join(lines)).rstrip()
    text = quoted(whole[-MOST_TRACEBACK:], MOST_TRACEBACK)
    return (f"crashed after {after}: {type(error).__name__}", text)


def _described(result: object) -> str:
    try:
        return quoted(without_tokens(_SHORT.repr(result)), MOST_RETURN)
    except Exception:  # noqa: BLE001 (a value's own code must not fail the work that made it)
        return f"a {type(result).__name__}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


_SHORT = reprlib.Repr()
"""Does not build the whole text of a large list, dict or string first."""
_SHORT.maxstring = _SHORT.maxother = MOST_RETURN
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = _SHORT.maxset = 10
