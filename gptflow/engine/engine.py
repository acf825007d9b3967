"""Gets replies: the engine of runs and of GPTWrapper, over all keys of a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Literal, Self

from gptflow.engine import wire
from gptflow.engine.caller import Caller, CallLimits, Lost, Outcome, Send
from gptflow.engine.clock import Clock
from gptflow.engine.config import Config, KeyEntry, load_config
from gptflow.engine.dispatch import Dispatcher, no_key_left
from gptflow.engine.events import ConfigBroken, Event, KeysChanged
from gptflow.engine.keys import KeyPool, NoKey, Strategy
from gptflow.engine.open_client import open_client
from gptflow.engine.pause import Pause
from gptflow.engine.standing import KeyState
from gptflow.engine.watch import ConfigWatch
from gptflow.errors import CallFailed, ConfigError, RunStopped
from gptflow.records import Call, Failure, FailureKind, Reply, unwritable

BYTES_PER_TOKEN = 4
MOST_IN_FLIGHT = 1024
"""The most calls at a time where the engine finds out itself how many go well."""


class Engine:
    """Drives all keys of a configuration. Use it in `async with`, inside one event loop.

    While it is open it watches the file of the configuration: keys that are added, removed or
    edited there are so here, too, within seconds. Calls in flight finish on their old key.
    """

    def __init__(  # noqa: PLR0913  # each has a default that fits most
        self,
        config: Config,
        *,
        strategy: Strategy = "spread",
        concurrency: int | Literal["auto"] = "auto",
        attempts: int = 8,
        timeout_s: float = 120.0,
        key_wait_s: float | None = 0.0,
        base_wait_s: float = 30.0,
        outage_s: float = 3600.0,
        clock: Clock | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Build an engine; nothing is sent yet.

        Args:
            config: the keys.
            strategy: "spread" uses all keys at once, each as far as it has room; "sequential" one
                after the other, each until it has none.
            concurrency: the most calls that are under way at a time; "auto" finds for each key how
                many go well.
            attempts: how often a call may fail for a passing reason. Rate limits do not count.
            timeout_s: deadline on the wall for one attempt.
            key_wait_s: how long to wait for a change of the configuration's file when no usable
                key is left; None for as long as it takes, 0 to stop at once. Without a file there
                is nothing to wait for.
            base_wait_s: while it waits, KeysSpent is told at once and after 1, 2, 4 ... times this.
            outage_s: how long calls are held while no server answers, before they fail.
            clock: where time and chance come from.
            on_event: is told what happens to keys and calls, at once and in the event loop.
        """
        clock = clock or Clock()
        is_adaptive = concurrency == "auto"
        in_flight = MOST_IN_FLIGHT if concurrency == "auto" else concurrency
        self._config = config
        self._clock = clock
        self._on_event = on_event or (lambda _: None)
        self._ordered: RunStopped | None = None
        """Why someone told the engine to stop, or to send no call that has to wait."""
        self._client = open_client(timeout_s=timeout_s, connections=in_flight)
        self._pool = KeyPool(
            config.keys, config.start_index, strategy=strategy, adaptive=is_adaptive
        )
        self._dispatcher = Dispatcher(
            self._pool, clock, in_flight, config.origin, on_no_key=self._no_key_left
        )
        self._caller = Caller(
            self._pool,
            self._dispatcher,
            clock,
            self._emit,
            CallLimits(attempts, outage_s),
        )
        self._waits_for_keys = key_wait_s != 0 and config.path is not None
        self._is_lost = False
        """Whether a call has found no usable key since the keys changed last."""
        self._pause = Pause(
            clock,
            self._emit,
            self._dispatcher.give_up,
            origin=config.origin,
            base_wait_s=base_wait_s,
            patience_s=key_wait_s,
        )
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        path = self._config.path
        if path is not None:
            watch = ConfigWatch(
                path,
                load=lambda: load_config(path),
                on_config=self.reload,
                on_error=self._tell_broken,
                current=self._config,
            )
            await self._open.enter_async_context(watch)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pause.cancel()
        self._caller.close()
        try:
            await self._open.aclose()
        finally:
            await self._client.aclose()

    @property
    def in_flight(self) -> int:
        """Calls that are on the wire."""
        return self._caller.in_flight

    @property
    def in_line(self) -> int:
        """Calls that wait for a key."""
        return self._dispatcher.in_line

    def outlook(self) -> tuple[KeyState, ...]:
        """Each key as it stands: its state, its load, its limits as far as they are known."""
        return self._pool.outlook(self._clock.now())

    def answered(self) -> Mapping[str, int]:
        """How many calls each key has answered, by its name."""
        return self._caller.answered

    def stop(self, reason: RunStopped) -> None:
        """Lets no call be sent any more: all that wait fail with `reason`, at once.

        Calls that are on the wire come back first: they may be paid already.
        """
        self._ordered = reason
        self._caller.stop(reason)

    def drain(self, reason: RunStopped) -> None:
        """Lets a call that cannot be sent at once fail with `reason`, now and from now on."""
        self._ordered = reason
        self._caller.drain(reason)

    def reload(self, config: Config) -> None:
        """Goes on with other keys. Those whose entry is the same keep what is known of them."""
        before, after = set(self._config.keys), set(config.keys)
        self._config = config
        self._pool.replace(config.keys, config.start_index)
        self._emit(KeysChanged(_names(after - before), _names(before - after)))
        self._is_lost = False
        self._dispatcher.move()
        if not self._is_lost:
            self._pause.end()

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        """The model's reply.

        Waits as long as all keys rest. Cancelling it gives its key back.

        Args:
            call: the question.
            prefer: name of the key that the conversation is on (`Reply.key_name`).
            send: who sends the call, whose messages are not here; `call.prompt_tokens` is given.

        Raises:
            CallFailed: there is no reply, and will be none.
            RunStopped: no call can be answered: no key is left, or the machine is at fault.
            Exception: what `send` raises.
        """
        if send is not None:
            answer = await self._caller.answer(call, send, call.prompt_tokens or 0, prefer)
        else:
            try:
                body = wire.encode(call)
            except UnicodeEncodeError:
                raise CallFailed(unwritable(call.step)) from None
            answer = await self._answer(call, body, prefer)
        if isinstance(answer, Lost):
            raise CallFailed(answer.failure, answer.reply)
        return answer

    async def complete(self, call: Call, *, prefer: str | None = None) -> Reply:
        """As `ask`, but raises the exceptions that the openai package would.

        They hold neither key nor Authorization header; their notes tell of the last attempts.
        Unlike openai's own they survive pickling, without their causes.

        Raises:
            RunStopped: `stop` or `drain` was called.
            openai.OpenAIError: the class that fits: RateLimitError, BadRequestError,
                AuthenticationError, APITimeoutError, APIConnectionError ...
        """
        try:
            answer = await self._answer(call, wire.encode(call), prefer)
        except RunStopped as stopped:
            is_ordered = self._ordered is not None and self._ordered.message == stopped.message
            if is_ordered or self._caller.last_loss is None:
                raise
            lost = Failure(FailureKind.REJECTED, stopped.message)
            answer = Lost(lost, *self._caller.last_loss)
        if isinstance(answer, Reply):
            return answer
        from gptflow.engine.exceptions import to_openai_error

        error = to_openai_error(answer.failure, answer.outcome, answer.url)
        for told in answer.failure.history:
            error.add_note(told)
        raise error

    async def _answer(self, call: Call, body: bytes, prefer: str | None) -> Reply | Lost:
        async def send(key: KeyEntry) -> Outcome:
            return await self._client.send(key, call.endpoint, body)

        return await self._caller.answer(call, send, len(body) // BYTES_PER_TOKEN, prefer)

    def _emit(self, event: Event) -> None:
        """Tells who listens. A listener that fails must not cost a lease, or end a pause."""
        try:
            self._on_event(event)
        except Exception:
            logging.getLogger("gptflow").exception("a listener failed on %r", event)

    def _no_key_left(self, lost: NoKey) -> bool:
        """Whether the calls wait, in the hope that the keys change."""
        if not self._waits_for_keys or not lost.recoverable:
            return False
        self._is_lost = True
        self._pause.begin(no_key_left(lost, self._config.origin))
        return True

    def _tell_broken(self, error: ConfigError) -> None:
        self._emit(ConfigBroken(str(error)))


def _names(entries: set[KeyEntry]) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in entries))
