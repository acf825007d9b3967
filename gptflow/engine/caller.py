"""Takes a call to its reply: takes a key, sends, judges what came, and goes on until it is settled.

The one place that retries. Nothing below it does, so that attempts are counted once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from gptflow.engine import wire
from gptflow.engine.attempt import FaultKind, Flaw, Response, TransportFault
from gptflow.engine.backoff import Backoff, doubled
from gptflow.engine.clock import Clock
from gptflow.engine.config import KeyEntry
from gptflow.engine.dispatch import Dispatcher
from gptflow.engine.events import (
    CallRetried,
    Event,
    KeyExhausted,
    KeyRested,
    KeyRetired,
    KeyUsed,
    ModelMissing,
    ReplyWasted,
)
from gptflow.engine.keys import KeyPool, Lease
from gptflow.engine.outage import Absence, Outage
from gptflow.engine.tries import Tries
from gptflow.engine.verdicts import (
    Verdict,
    VerdictKind,
    failure_of,
    judge_fault,
    judge_flaw,
    judge_response,
)
from gptflow.errors import RunStopped
from gptflow.records import Call, Failure, Reply

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
LONGEST_NAMED_WAIT_S = 600.0
"""The longest wait before the next attempt of a call, whatever the server asks for: so a call takes
at most its attempts times this and the deadline of an attempt."""

Outcome = Response | TransportFault

_SUCCESSES = range(200, 300)
_FINAL = frozenset({VerdictKind.REJECTED, VerdictKind.REFUSED})
_CHARGED = _FINAL | {VerdictKind.RETRY}
_LOSSES = frozenset(
    {VerdictKind.EXHAUSTED, VerdictKind.RETIRED, VerdictKind.NO_MODEL, VerdictKind.STOP}
)
_FORBIDDEN, _SERVER_ERROR = 403, 500
_UNAVAILABLE = frozenset({502, 503, 504, *range(520, 530)})
"""A gateway without its server, a server that loads its model, or one that has too much to do."""


Send = Callable[[KeyEntry], Awaitable[Outcome]]
"""One attempt to send a call with a key, from wherever its messages are."""


class CallLimits(NamedTuple):
    """What a call may take before it is given up."""

    attempts: int
    """Attempts that fail for a passing reason."""
    outage_s: float
    """Seconds for which it is held while no server answers."""


class Lost(NamedTuple):
    """A call without a reply, with the attempt that settled it."""

    failure: Failure
    outcome: Outcome
    url: str
    reply: Reply | None = None
    """What was paid for all the same: a refusal, or a reply without content."""


class Caller:
    """Takes calls to their replies, as many at a time as are asked for."""

    def __init__(
        self,
        pool: KeyPool,
        dispatcher: Dispatcher,
        clock: Clock,
        emit: Callable[[Event], None],
        limits: CallLimits,
    ) -> None:
        self._pool = pool
        self._dispatcher = dispatcher
        self._clock = clock
        self._emit = emit
        self._attempts = limits.attempts
        self._backoff = Backoff(clock)
        self._outage = Outage(clock, emit, limits.outage_s)
        self._stopped: RunStopped | None = None
        self._draining: RunStopped | None = None
        self._active = 0
        """Calls that are on their way."""
        self.in_flight = 0
        """Calls that are on the wire."""
        self.answered: dict[str, int] = {}
        """Calls that were answered, by the name of the key. Has the keys that have sent any."""
        self.last_loss: tuple[Outcome, str] | None = None
        """What took a key or a server away last, and its URL: the cause, when none is left."""

    def stop(self, reason: RunStopped) -> None:
        """Lets no call be sent any more. Those on the wire come back first."""
        self._stopped = reason
        self._dispatcher.stop(reason)
        self._outage.stop(reason)
        self._backoff.end()

    def drain(self, reason: RunStopped) -> None:
        """Lets the calls that have to wait for anything fail with `reason`; the others go on."""
        self._draining = reason
        self._dispatcher.drain(reason)
        self._outage.stop(reason)
        self._backoff.end()

    def close(self) -> None:
        """Ends what goes on in the background."""
        self._dispatcher.close()
        self._outage.close()

    async def answer(
        self, call: Call, send: Send, prompt_tokens: int, prefer: str | None
    ) -> Reply | Lost:
        """The reply to a call, or why there will be none. `prompt_tokens`: estimated.

        Raises:
            RunStopped: no call can be answered any more.
            Exception: what `send` raises: the attempt and its lease count for nothing.
        """
        tries = Tries()
        tokens = prompt_tokens + _longest_reply(call)
        self._active += 1
        try:
            while True:
                is_probe = self._outage.is_on
                if is_probe:
                    await self._outage.hold()
                lease = await self._dispatcher.lease(
                    call.model, tokens=tokens, prefer=prefer, avoid=tries.avoid
                )
                if self._stopped:  # it was given in the very moment in which all was stopped
                    self._dispatcher.release(lease)
                    raise self._stopped.again()
                if self._outage.is_on and not is_probe:
                    self._dispatcher.release(lease)
                    continue
                answer = await self._try(call, send, lease, tries, is_probe=is_probe)
                if answer is not None:
                    return answer
        finally:
            self._active -= 1

    async def _try(
        self, call: Call, send: Send, lease: Lease, tries: Tries, *, is_probe: bool
    ) -> Reply | Lost | None:
        """Sends once. None: the call goes on."""
        if lease.key.name not in self.answered:
            self.answered[lease.key.name] = 0
            self._emit(KeyUsed(lease.key.name))
        began = self._clock.now()
        result, outcome = await self._attempt(lease, call, send)
        tries.sent += 1
        if isinstance(result, Reply):
            self._settle_reply(lease, result, outcome)
            return _served(result, lease, tries.sent, self._clock.now() - began)
        fault = outcome if isinstance(outcome, TransportFault) else None
        if fault and tries.was_stopped(fault):
            self._settle(lease, result, outcome)
            tries.note(lease, result, None)
            return None
        is_gone = _is_gone(result, outcome)
        is_elsewhere = is_gone and self._note_absence(lease, outcome)
        self._settle(lease, result, outcome)
        is_excused = self._note_outage(tries, lease, result, outcome, is_gone=is_gone)
        if self._outage.is_on and not is_probe:
            tries.note(lease, result, None)
            tries.forgive(self._outage.since)
            return None
        if is_elsewhere:  # the fault of a host that the call can do without
            tries.note(lease, result, None)
            return None
        is_charged = result.kind in _CHARGED and not is_excused
        tries.note(lease, result, self._clock.now() if is_charged else None)
        if result.kind in _FINAL or tries.are_enough(result, self._attempts):
            failure = failure_of(result, call.step, attempts=tries.charged, history=tries.history)
            reply = result.reply and _served(result.reply, lease, tries.sent)
            return Lost(failure, outcome, lease.key.base_url, reply)
        if result.reply is not None:
            self._emit(ReplyWasted(call, _served(result.reply, lease, tries.sent)))
        if result.kind is VerdictKind.RETRY and not self._outage.is_on:
            await self._back_off(call, lease, result, outcome, tries)
        return None

    async def _attempt(
        self, lease: Lease, call: Call, send: Send
    ) -> tuple[Reply | Verdict, Outcome]:
        """Sends, and judges what came."""
        key = lease.key if call.timeout_s is None else _hurried(lease.key, call.timeout_s)
        judged: tuple[Reply | Verdict, Outcome] | None = None
        self.in_flight += 1
        try:
            outcome = await send(key)
            result = self._read(outcome)
            if isinstance(result, Verdict):
                judged = _scrubbed(lease, result, outcome)
            else:
                judged = result, outcome
        finally:
            self.in_flight -= 1
            if judged is None:  # cancelled, or a bug: a lease that is not given back is a key lost
                self._dispatcher.release(lease)
        return judged

    def _read(self, outcome: Outcome) -> Reply | Verdict:
        if isinstance(outcome, TransportFault):
            return judge_fault(outcome)
        if outcome.status not in _SUCCESSES:
            return judge_response(outcome, self._clock.wall())
        reply = outcome.reply or wire.decode(outcome.body)
        if isinstance(reply, Flaw):
            return judge_flaw(reply, outcome, self._clock.wall())
        return reply

    def _settle_reply(self, lease: Lease, reply: Reply, outcome: Outcome) -> None:
        self._outage.answered()
        self.answered[lease.key.name] += 1
        headers = outcome.headers if isinstance(outcome, Response) else None
        self._dispatcher.settle(lease, None, headers=headers, usage=reply.usage)

    def _settle(self, lease: Lease, verdict: Verdict, outcome: Outcome) -> None:
        """Gives the lease back, tells what became of the key, and stops where all is lost."""
        if verdict.kind in _LOSSES:
            self.last_loss = outcome, lease.key.base_url
        stopped = None
        if verdict.kind is VerdictKind.STOP:
            stopped = RunStopped(verdict.message, hint=verdict.hint)
            self.stop(stopped)  # before the lease can go to the next in line
        headers = outcome.headers if isinstance(outcome, Response) else None
        usage = verdict.reply.usage if verdict.reply else None
        changed = self._dispatcher.settle(lease, verdict, headers=headers, usage=usage)
        if stopped:
            raise stopped
        event = _news(lease, verdict, self._pool.until(lease) - self._clock.now())
        if changed and event:
            self._emit(event)

    def _note_absence(self, lease: Lease, outcome: Outcome) -> bool:
        """Tells the pool of a server that gave no answer.

        Returns whether nothing was sent, and another key's server answers: then the call goes there
        and is charged nothing.
        """
        if self._outage.is_on:
            return False
        reached = not _is_unreached(outcome)
        is_elsewhere = self._pool.note_absence(lease, self._clock.now(), reached=reached)
        return is_elsewhere and not reached

    def _note_outage(
        self, tries: Tries, lease: Lease, verdict: Verdict, outcome: Outcome, *, is_gone: bool
    ) -> bool:
        """Tells the outage whether a server is there. Returns whether the call is not charged."""
        if not is_gone:
            self._outage.answered()
            return False
        self.last_loss = outcome, lease.key.base_url
        absence = Absence(
            lease.key.name,
            tries,
            verdict.message,
            reached=not _is_unreached(outcome),
            is_unavailable=verdict.status in _UNAVAILABLE,
        )
        self._outage.failed(
            absence,
            active=self._active,
            in_service=lambda: self._pool.in_service(self._clock.now(), lease.model),
        )
        return self._outage.excuses(absence, active=self._active)

    async def _back_off(
        self, call: Call, lease: Lease, verdict: Verdict, outcome: Outcome, tries: Tries
    ) -> None:
        """Waits with full jitter, without a lease; a wait that the server names wins."""
        longest_s = doubled(FIRST_BACKOFF_S, max(0, tries.charged - 1), LONGEST_BACKOFF_S)
        named_s = verdict.wait_s and min(verdict.wait_s, LONGEST_NAMED_WAIT_S)
        wait_s = named_s or longest_s * self._clock.random()
        self._emit(
            CallRetried(
                step=call.step,
                model=call.model,
                key_name=lease.key.name,
                attempt=tries.charged,
                wait_s=wait_s,
                status=verdict.status,
                message=verdict.message,
                fault=outcome.kind if isinstance(outcome, TransportFault) else None,
            )
        )
        await self._backoff.wait(wait_s)
        if self._draining:  # the wait was cut short: not to try again, but to end
            raise self._draining.again()


def _is_gone(verdict: Verdict, outcome: Outcome) -> bool:
    """Whether an attempt failed in a way in which a server fails that is not there."""
    status = verdict.status or 0
    is_mute = isinstance(outcome, TransportFault)
    is_away = is_mute or status >= _SERVER_ERROR or status == _FORBIDDEN
    return is_away and verdict.kind is VerdictKind.RETRY


def _is_unreached(outcome: Outcome) -> bool:
    return isinstance(outcome, TransportFault) and outcome.kind is FaultKind.CONNECT


def _longest_reply(call: Call) -> int:
    """The tokens that a provider charges for a reply before it has one.

    OpenAI counts max_tokens beside the prompt: https://platform.openai.com/docs/guides/rate-limits
    """
    params = call.params
    longest = params.get("max_completion_tokens") or params.get("max_tokens") or 0
    return longest if isinstance(longest, int) else 0


@functools.lru_cache(maxsize=1000)
def _hurried(key: KeyEntry, timeout_s: float) -> KeyEntry:
    """The key with another deadline: the same object each time, since senders know keys by that."""
    return dataclasses.replace(key, timeout_s=timeout_s)


def _scrubbed(lease: Lease, verdict: Verdict, outcome: Outcome) -> tuple[Verdict, Outcome]:
    """Both without the key's secrets, which some proxies quote when they do not like them."""
    for secret in (lease.key.api_key, *(value for _, value in lease.key.headers)):
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
