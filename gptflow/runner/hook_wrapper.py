"""What a function of the user's asks the model with: GPTWrapper's methods, over the run's own desk.

So its calls are limited, priced and stored like those of the spec's questions, and a resumed row
finds its answers again.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

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
        self._counting = threading.Lock()
        self._ended: GptflowError | None = None
        self._lost: list[CallFailed] = []

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

    def close(self) -> None:
        """Lets nothing be asked any more: the function has returned."""
        self._ask = None

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
        with self._counting:
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
        return asyncio.run_coroutine_threadsafe(self._reply(asked.call), self._loop).result()

    async def _aanswer(self, asked: Question) -> Reply:
        if asyncio.get_running_loop() is self._loop:
            return await self._reply(asked.call)
        there = asyncio.run_coroutine_threadsafe(self._reply(asked.call), self._loop)
        return await asyncio.wrap_future(there)

    async def _reply(self, call: Call) -> Reply:
        if self._ask is None:
            raise UsageError("nothing can be asked any more: the function has returned")
        try:
            return await self._ask(call)
        except CallFailed as failed:
            self._lost.append(failed)
            raise
        except GptflowError as error:
            self._ended = error
            raise


def _with_defaults(given: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """What is given, and the spec's parameters for the rest; what the API does not know, too."""
    named = {name: value for name, value in given.items() if value is not None}
    rest = {name: value for name, value in params.items() if name not in named}
    return {**named, "extra_body": {**rest, **named.get("extra_body", {})}}


def _texts(asked: Question, reply: Reply) -> str | list[str]:
    return wire.texts(reply.body) if asked.is_list else reply.text
