"""Gets replies: takes a key, sends, judges what came, and goes on until there is a reply or none.

The one place that retries. Nothing below it does, so that attempts are counted once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import msgspec

from gptflow.engine import wire
from gptflow.engine.attempt import Flaw, Response, TransportFault
from gptflow.engine.backoff import Backoff, doubled
from gptflow.engine.client import Client
from gptflow.engine.clock import Clock
from gptflow.engine.config import Config
from gptflow.engine.dispatch import Dispatcher
from gptflow.engine.events import (
    CallRetried,
    Event,
    KeyExhausted,
    KeyRested,
    KeyRetired,
    KeyUsed,
    ModelMissing,
)
from gptflow.engine.keys import KeyPool, Lease
from gptflow.engine.verdicts import (
    Verdict,
    VerdictKind,
    failure_of,
    judge_fault,
    judge_flaw,
    judge_response,
)
from gptflow.errors import CallFailed, RunStopped
from gptflow.records import Call, Failure, FailureKind, Reply

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0

Outcome = Response | TransportFault

_SUCCESSES = range(200, 300)
_FINAL = frozenset({VerdictKind.REJECTED, VerdictKind.REFUSED})
_CHARGED = _FINAL | {VerdictKind.RETRY}
_LOSSES = frozenset(
    {VerdictKind.EXHAUSTED, VerdictKind.RETIRED, VerdictKind.NO_MODEL, VerdictKind.STOP}
)


class _Lost(NamedTuple):
    """A call without a reply, with the attempt that settled it."""

    failure: Failure
    outcome: Outcome
    url: str
    reply: Reply | None = None
    """What was paid for all the same: a refusal, or a reply without content."""


class Engine:
    """Drives all keys of a configuration. Use it in `async with`, inside one event loop."""

    def __init__(
        self,
        config: Config,
        *,
        attempts: int = 8,
        timeout_s: float = 120.0,
        max_in_flight: int = 256,
        clock: Clock | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Build an engine; nothing is sent yet.

        Args:
            config: the keys.
            attempts: how often a call may fail for a passing reason. Rate limits do not count.
            timeout_s: deadline on the wall for one attempt.
            max_in_flight: the most calls that are under way at a time.
            clock: where time and chance come from.
            on_event: is told what happens to keys and calls, at once and in the event loop.
        """
        self._attempts = attempts
        self._clock = clock or Clock()
        self._emit = on_event or (lambda _: None)
        self._client = Client(timeout_s=timeout_s, connections=max_in_flight)
        self._pool = KeyPool(config.keys, config.start_index)
        self._dispatcher = Dispatcher(self._pool, self._clock, max_in_flight, config.origin)
        self._backoff = Backoff(self._clock)
        self._used: set[str] = set()
        """Names of the keys that have sent a call."""
        self._last_loss: tuple[Outcome, str] | None = None
        """What took a key out of service last, and its URL: the cause, when none is left."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._dispatcher.close()
        await self._client.aclose()

    def stop(self, reason: RunStopped) -> None:
        """Lets no call be sent any more: all that wait fail with `reason`, at once.

        Calls that are on the wire come back first: they may be paid already.
        """
        self._dispatcher.stop(reason)
        self._backoff.end()

    async def ask(self, call: Call, *, prefer: str | None = None) -> Reply:
        """The model's reply.

        Waits as long as all keys rest. Cancelling it gives its key back.

        Args:
            call: the question.
            prefer: name of the key that the conversation is on (`Reply.key_name`).

        Raises:
            CallFailed: there is no reply, and will be none.
            RunStopped: no call can be answered: no key is left, or the machine is at fault.
        """
        try:
            body = wire.encode(call)
        except UnicodeEncodeError:
            message = "a message holds half of a surrogate pair, which UTF-8 cannot carry"
            raise CallFailed(Failure(FailureKind.REJECTED, message, step=call.step)) from None
        answer = await self._answer(call, body, prefer)
        if isinstance(answer, _Lost):
            raise CallFailed(answer.failure, answer.reply)
        return answer

    async def complete(self, call: Call, *, prefer: str | None = None) -> Reply:
        """As `ask`, but raises the exceptions that the openai package would.

        They hold neither key nor Authorization header. Like openai's own they do not survive
        pickling: across processes send the `Failure` of `ask`.

        Raises:
            openai.OpenAIError: the class that fits: RateLimitError, BadRequestError,
                AuthenticationError, APITimeoutError, APIConnectionError ...
        """
        try:
            answer = await self._answer(call, wire.encode(call), prefer)
        except RunStopped as stopped:
            if self._last_loss is None:
                raise
            answer = _Lost(Failure(FailureKind.REJECTED, stopped.message), *self._last_loss)
        if isinstance(answer, Reply):
            return answer
        from gptflow.engine.exceptions import to_openai_error

        raise to_openai_error(answer.failure, answer.outcome, answer.url)

    async def _answer(self, call: Call, body: bytes, prefer: str | None) -> Reply | _Lost:
        sent = charged = 0
        avoid: str | None = None
        while True:
            lease = await self._dispatcher.lease(call.model, prefer=prefer, avoid=avoid)
            self._note_use(lease.key.name)
            began = self._clock.now()
            verdict, outcome = await self._attempt(lease, call.endpoint, body)
            sent += 1
            if isinstance(verdict, Reply):
                took_s = self._clock.now() - began
                self._dispatcher.settle(lease, None)
                return _served(verdict, lease, sent, took_s)
            self._settle(lease, verdict, outcome)
            charged += verdict.kind in _CHARGED
            allowed = min(self._attempts, verdict.tries or self._attempts)
            if verdict.kind in _FINAL or charged >= allowed:
                failure = failure_of(verdict, call.step, attempts=charged)
                reply = verdict.reply and _served(verdict.reply, lease, sent)
                return _Lost(failure, outcome, lease.key.base_url, reply)
            if verdict.kind is VerdictKind.RETRY:
                avoid = lease.key.name
                await self._back_off(call, lease, verdict, outcome, charged)

    def _note_use(self, key_name: str) -> None:
        if key_name not in self._used:
            self._used.add(key_name)
            self._emit(KeyUsed(key_name))

    async def _attempt(
        self, lease: Lease, endpoint: str, body: bytes
    ) -> tuple[Reply | Verdict, Outcome]:
        """Sends once, and judges what came."""
        judged: tuple[Reply | Verdict, Outcome] | None = None
        try:
            outcome = await self._client.send(lease.key, endpoint, body)
            result = self._read(outcome)
            if isinstance(result, Verdict):
                judged = _scrubbed(lease, result, outcome)
            else:
                judged = result, outcome
        finally:
            if judged is None:  # cancelled, or a bug: a lease that is not given back is a key lost
                self._dispatcher.release(lease)
        return judged

    def _read(self, outcome: Outcome) -> Reply | Verdict:
        if isinstance(outcome, TransportFault):
            return judge_fault(outcome)
        if outcome.status not in _SUCCESSES:
            return judge_response(outcome, self._clock.wall())
        reply = wire.decode(outcome.body)
        if isinstance(reply, Flaw):
            return judge_flaw(reply, outcome, self._clock.wall())
        return reply

    def _settle(self, lease: Lease, verdict: Verdict, outcome: Outcome) -> None:
        """Gives the lease back, tells what became of the key, and stops where all is lost."""
        if verdict.kind in _LOSSES:
            self._last_loss = outcome, lease.key.base_url
        stopped = None
        if verdict.kind is VerdictKind.STOP:
            stopped = RunStopped(verdict.message, hint=verdict.hint)
            self.stop(stopped)  # before the lease can go to the next in line
        changed = self._dispatcher.settle(lease, verdict)
        if stopped:
            raise stopped
        event = _news(lease, verdict, self._pool.until(lease) - self._clock.now())
        if changed and event:
            self._emit(event)

    async def _back_off(
        self, call: Call, lease: Lease, verdict: Verdict, outcome: Outcome, charged: int
    ) -> None:
        """Waits with full jitter, without a lease; a wait that the server names wins."""
        longest_s = doubled(FIRST_BACKOFF_S, charged - 1, LONGEST_BACKOFF_S)
        wait_s = verdict.wait_s or longest_s * self._clock.random()
        self._emit(
            CallRetried(
                step=call.step,
                model=call.model,
                key_name=lease.key.name,
                attempt=charged,
                wait_s=wait_s,
                status=verdict.status,
                message=verdict.message,
                fault=outcome.kind if isinstance(outcome, TransportFault) else None,
            )
        )
        await self._backoff.wait(wait_s)


def _scrubbed(lease: Lease, verdict: Verdict, outcome: Outcome) -> tuple[Verdict, Outcome]:
    """Both without the key, which some proxies quote when they do not like it."""
    secret = lease.key.api_key
    verdict = msgspec.structs.replace(
        verdict,
        message=secret.scrub(verdict.message),
        code=verdict.code and secret.scrub(verdict.code),
        text=verdict.text and secret.scrub(verdict.text),
    )
    if isinstance(outcome, Response) and secret.reveal().encode() in outcome.body:
        body = secret.scrub(outcome.body.decode("utf-8", "replace")).encode()
        outcome = msgspec.structs.replace(outcome, body=body)
    return verdict, outcome


def _news(lease: Lease, verdict: Verdict, rest_s: float) -> Event | None:
    """What to tell about a key to which `verdict` happened."""
    name, message = lease.key.name, verdict.message
    match verdict.kind:
        case VerdictKind.REST:
            return KeyRested(name, rest_s, message)
        case VerdictKind.EXHAUSTED:
            return KeyExhausted(name, message)
        case VerdictKind.RETIRED:
            return KeyRetired(name, message)
        case VerdictKind.NO_MODEL:
            return ModelMissing(name, lease.model, message)
        case _:
            return None


def _served(reply: Reply, lease: Lease, attempts: int, latency_s: float = 0.0) -> Reply:
    """A reply with how it was come by."""
    return msgspec.structs.replace(
        reply, key_name=lease.key.name, attempts=attempts, latency_s=latency_s
    )
