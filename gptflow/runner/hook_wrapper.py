"""What a function of the user's asks the model with: GPTWrapper's methods, over the run's own desk.

So its calls are limited, priced and stored like those of the spec's questions, and a resumed row
finds its answers again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec

from gptflow.engine import wire
from gptflow.errors import CallFailed, GptflowError, UsageError
from gptflow.pipeline.conversation import HookCall
from gptflow.pipeline.identity import CallIdentity, digest_of
from gptflow.records import Call, Reply
from gptflow.wrapper.question import Question, question

Messages = str | Sequence[str] | Sequence[Mapping[str, Any]] | None


class HookWrapper:
    """Asks the model for one call of a function, about one row.

    The methods are GPTWrapper's, but for one thing: without a model they ask the spec's, with the
    spec's parameters where no others are given. They may be called from any thread and any event
    loop, several at the same time.
    """

    def __init__(self, wanted: HookCall, ask: Callable[[Call], Awaitable[Reply]] | None) -> None:
        self._wanted = wanted
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._asked: Counter[str] = Counter()
        """How often each question was asked: the second answer is another one."""
        self._lock = threading.Lock()
        self._ended: GptflowError | None = None
        self._lost: list[CallFailed] = []
        self._tasks: set[asyncio.Task[Reply]] = set()
        """The calls that are not answered yet: they are sent, whoever still wants the answer."""
        self._awaited: set[Future[Reply]] = set()
        """What other threads wait for."""
        self._is_closed = False

    def completions_with_backoff(  # noqa: PLR0913, PLR0917  # the original's signature
        self,
        engine: str | None = None,
        messages: Messages = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        top_p: float | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        **parameters: Any,
    ) -> Any:
        """The text of the model's reply, or a list of texts, as of GPTWrapper. Waits for it.

        Raises:
            UsageError: the call cannot be sent like this.
            CallFailed: there is no reply, and will be none.
        """
        parameters |= {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "top_p": top_p,
            "frequency_penalty": frequency_penalty,
            "presence_penalty": presence_penalty,
        }
        asked = self._question(engine, messages, parameters)
        return _texts(asked, self._answer(asked))

    async def acompletions_with_backoff(
        self, engine: str | None = None, messages: Messages = None, **parameters: Any
    ) -> Any:
        """As `completions_with_backoff`, in an event loop."""
        asked = self._question(engine, messages, parameters)
        return _texts(asked, await self._aanswer(asked))

    def complete(
        self, engine: str | None = None, messages: Messages = None, **parameters: Any
    ) -> Reply:
        """As `completions_with_backoff`, but gives the whole reply, as of GPTWrapper."""
        return self._answer(self._question(engine, messages, parameters))

    async def acomplete(
        self, engine: str | None = None, messages: Messages = None, **parameters: Any
    ) -> Reply:
        """As `complete`, in an event loop."""
        return await self._aanswer(self._question(engine, messages, parameters))

    async def __aenter__(self) -> Self:
        """Entered around the function."""
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        """Lets nothing be asked any more, and waits for what was: it may be paid.

        Only with the run's own cancellation the calls are given up, too.
        """
        self._ask = None
        try:
            if isinstance(error, asyncio.CancelledError):
                self._cancel()
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            self._cancel()
            raise
        finally:
            self._tell_all()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _tell_all(self) -> None:
        """No thread waits for a loop that may be closed."""
        with self._lock:
            self._is_closed = True
            left = list(self._awaited)
        for answer in left:
            _tell(answer, error=_too_late())

    def raise_ended(self) -> None:
        """Raises what has ended the run meanwhile: the function may have let it pass."""
        if self._ended is not None:
            raise self._ended

    def raise_lost(self, error: BaseException | None) -> None:
        """Raises `error` as it is where it is that of a call: the function did not fail by itself.

        What has ended the run goes before it.
        """
        self.raise_ended()
        for lost in self._lost:
            if lost is error:
                raise lost

    def _question(self, engine: object, messages: object, given: dict[str, Any]) -> Question:
        """The call with its key."""
        step, row = self._wanted.step, self._wanted.row
        if engine is None and given.get("model") is None and step.model:
            engine, given = step.model, _with_defaults(given, step.params)
        asked = question(engine, messages, given)
        call, python = asked.call, step.python
        assert python is not None
        content = digest_of([call.endpoint, call.model, call.messages, call.params])
        with self._lock:
            self._asked[content] += 1
            turn = self._asked[content]
        identity = CallIdentity(
            endpoint=call.endpoint,
            model=call.model,
            params=call.params,
            step=f"{step.name}#{turn}",
            server=python.server,
        )
        key = identity.key(call.messages, row)
        return asked._replace(call=msgspec.structs.replace(call, key=key, step=step.name))

    def _answer(self, asked: Question) -> Reply:
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise UsageError(
                "an async function would hold up all rows here",
                hint="await wrapper.acompletions_with_backoff(...) or wrapper.acomplete(...)",
            )
        return self._from_outside(asked.call).result()

    async def _aanswer(self, asked: Question) -> Reply:
        if asyncio.get_running_loop() is self._loop:
            return await self._reply(asked.call)
        return await asyncio.wrap_future(self._from_outside(asked.call))

    async def _reply(self, call: Call) -> Reply:
        """The reply to a call, which goes on when its asker is cancelled: it may be paid."""
        task = self._begin(call)
        await asyncio.wait([task])
        return task.result()

    def _from_outside(self, call: Call) -> Future[Reply]:
        """The reply to a call that is asked by another thread."""
        answer: Future[Reply] = Future()
        with self._lock:
            if self._is_closed:
                raise _too_late()
            self._awaited.add(answer)
            self._loop.call_soon_threadsafe(self._begin_for, call, answer)
        answer.add_done_callback(self._forget)
        return answer

    def _begin_for(self, call: Call, answer: Future[Reply]) -> None:
        try:
            self._begin(call).add_done_callback(partial(_pass_on, answer))
        except UsageError as error:
            _tell(answer, error=error)

    def _forget(self, answer: Future[Reply]) -> None:
        with self._lock:
            self._awaited.discard(answer)

    def _begin(self, call: Call) -> asyncio.Task[Reply]:
        """Asks a call, in a task that is nobody's but the wrapper's."""
        if self._ask is None:
            raise _too_late()
        task = asyncio.ensure_future(self._answered(self._ask, call))
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Reply]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # also where nobody wants it any more

    async def _answered(self, ask: Callable[[Call], Awaitable[Reply]], call: Call) -> Reply:
        try:
            return await ask(call)
        except CallFailed as failed:
            self._lost.append(failed)
            raise
        except GptflowError as error:
            self._ended = error
            raise


def _too_late() -> UsageError:
    return UsageError("nothing can be asked any more: the function has returned")


def _pass_on(answer: Future[Reply], task: asyncio.Task[Reply]) -> None:
    if task.cancelled():
        answer.cancel()
    elif error := task.exception():
        _tell(answer, error=error)
    else:
        _tell(answer, task.result())


def _tell(
    answer: Future[Reply], reply: Reply | None = None, error: BaseException | None = None
) -> None:
    with suppress(InvalidStateError):  # whoever waited for it was cancelled
        if reply is None:
            answer.set_exception(error)
        else:
            answer.set_result(reply)


_EITHER = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""Two names of one limit, of which a server takes one."""


def _with_defaults(given: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """What is given, and the spec's parameters for the rest; what the API does not know, too."""
    named = {name: value for name, value in given.items() if value is not None}
    extra = named.get("extra_body", {})
    given_names = {*named, *extra}
    rest = {
        name: value
        for name, value in params.items()
        if name not in named and _EITHER.get(name) not in given_names
    }
    return {**named, "extra_body": {**rest, **extra}}


def _texts(asked: Question, reply: Reply) -> str | list[str]:
    return wire.texts(reply.body) if asked.is_list else reply.text
