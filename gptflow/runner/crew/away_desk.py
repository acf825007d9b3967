"""The run's desk, as a worker sees it: it decides, and here is sent."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Coroutine
from itertools import count
from typing import Any, NamedTuple

from gptflow.engine import wire
from gptflow.engine.attempt import Flaw, Response, TransportFault
from gptflow.engine.caller import Outcome
from gptflow.engine.config import KeyEntry
from gptflow.engine.limits import header
from gptflow.engine.stored import stored_reply
from gptflow.errors import CallFailed
from gptflow.pipeline.plan import Plan
from gptflow.pipeline.token_estimate import estimate_tokens
from gptflow.records import Call, Reply, Usage, unwritable
from gptflow.runner.crew import messages as said
from gptflow.runner.crew.outbox import Outbox

_SUCCESSES = range(200, 300)
_TELLING = ("ratelimit", "retry-after")
"""What stands in the names of the headers that tell limits; `date` tells the server's clock."""


class _Step(NamedTuple):
    """What a step says of all its calls."""

    model: str
    params: dict[str, Any]


class AwayDesk:
    """The run's desk, seen from a worker: it decides, and here is sent."""

    def __init__(self, plan: Plan, client: Any, outbox: Outbox, *, tells_messages: bool) -> None:
        self._client = client
        self._outbox = outbox
        self._tells_messages = tells_messages
        self.keeps = False
        """Whether this end stores the replies: the run is told of them, and not what they say."""
        self._steps = {step.name: _Step(step.model, step.params) for step in plan.steps}
        self._has_hooks = plan.has_hooks
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.keys: dict[int, KeyEntry] = {}

    @property
    def in_line(self) -> int:
        """Calls for which the run has to find a key."""
        return len(self._waiting)

    def take(self, message: Any) -> None:
        """Takes a message about a call."""
        waiting = self._waiting.pop(message.call, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def reply(self, position: int, call: Call, prefer: str | None) -> Reply:
        """The reply to a call of a row.

        One that is part of the row's conversation is on its way to the disk when this returns, and
        what the row says next is heard when it is there; any other is there.
        """
        try:
            body = wire.encode(call)
        except UnicodeEncodeError:
            raise CallFailed(unwritable(call.step)) from None
        question = self._question(position, call, prefer)
        number, last, wasted = question.call, None, None
        answer = await self._said(number, question)
        while isinstance(answer, said.SendCall):
            key = self.keys[answer.key]
            sending = self._client.send(key, call.endpoint, body)
            if question.is_beside:
                sending = self._sent_in_any_case(number, sending)
            outcome = await sending
            last, told = _told(number, outcome, with_body=not self.keeps)
            if last is not None and (self.keeps or not question.is_beside):
                self._outbox.post(told)
                return _from_key(last, key.name)
            wasted = _paid(outcome, key.name) if self.keeps else None
            answer = await self._said(number, told)
        match answer:
            case said.Kept() if last is not None:
                return last
            case said.Found():
                return stored_reply(call, answer.body)
            case said.NoReply():
                cut_off = _cut_off(call) if answer.truncated and not self.keeps else None
                raise CallFailed(answer.failure, wasted or cut_off)
            case said.Raise():
                raise pickle.loads(answer.error)  # noqa: S301  # from the run that started this
        raise AssertionError(answer)

    async def _sent_in_any_case(
        self, number: int, sending: Coroutine[Any, Any, Outcome]
    ) -> Outcome:
        """What came of an attempt. The run hears of it, too, where nobody waits for it any more."""
        task = asyncio.ensure_future(sending)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:  # a function of the user's has lost its patience: it is paid
            task.add_done_callback(
                lambda done: self._outbox.post(_told(number, done.result(), with_body=True)[1])
            )
            raise

    async def _said(self, number: int, message: Any) -> Any:
        """What is answered to a message about a call."""
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._outbox.post(message)
        try:
            return await waiting
        except asyncio.CancelledError:  # a function of the user's has lost its patience
            self._waiting.pop(number, None)
            self._outbox.post(said.GivenUp(number))
            raise

    def _question(self, position: int, call: Call, prefer: str | None) -> said.AskFor:
        step = self._steps.get(call.step)
        usual = (
            step is not None
            and call.params is step.params
            and call.model == step.model
            and call.timeout_s is None
        )
        rest = None
        if not usual or self._tells_messages:
            messages = call.messages if self._tells_messages else []
            unusual = said.Unusual(call.model, call.params, call.endpoint, call.timeout_s, messages)
            rest = said.encoded(unusual)
        tokens = estimate_tokens(call.messages)
        return said.AskFor(
            next(self._numbers),
            position,
            self.keeps or self._has_hooks or not usual,
            call.key,
            call.step,
            tokens,
            prefer,
            rest,
        )


def _told(
    number: int, outcome: Response | TransportFault, *, with_body: bool
) -> tuple[Reply | None, Any]:
    """What came of an attempt: the reply that is to be kept, if any, and what the run is told."""
    if isinstance(outcome, TransportFault):
        fault = said.Faulted(
            number, outcome.kind, outcome.message, outcome.hint, outcome.was_stopped
        )
        return None, fault
    reply = wire.decode(outcome.body) if outcome.status in _SUCCESSES else None
    if not isinstance(reply, Reply):
        headers = {name: header(outcome.headers, name) or "" for name in outcome.headers}
        return None, said.Responded(number, outcome.status, headers, outcome.body)
    usage = reply.usage
    is_counted = usage.prompt_tokens is not None and usage.completion_tokens is not None
    answered = said.Answered(
        call=number,
        body=reply.body if with_body else b"",
        model=reply.model,
        finish_reason=reply.finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        text="" if is_counted else reply.text,
        headers=_limits(outcome),
    )
    return reply, answered


def _limits(response: Response) -> dict[str, str]:
    """The headers that may tell limits, and the date, by which some of them go."""
    told = {
        name: header(response.headers, name) or ""
        for name in response.headers
        if any(word in name for word in _TELLING)
    }
    if told and (date := header(response.headers, "date")):
        told["date"] = date
    return told


def _from_key(reply: Reply, key_name: str) -> Reply:
    return Reply(
        reply.text, reply.finish_reason, reply.usage, reply.model, reply.body, key_name=key_name
    )


def _paid(outcome: Response | TransportFault, key_name: str) -> Reply | None:
    """What was paid for and is no reply: a refusal, or one without content."""
    if isinstance(outcome, TransportFault) or outcome.status not in _SUCCESSES:
        return None
    read = wire.decode(outcome.body)
    flawed = read.reply if isinstance(read, Flaw) else None
    return flawed and _from_key(flawed, key_name)


def _cut_off(call: Call) -> Reply:
    """What stands for a reply that was paid for, is of no use, and was cut off."""
    return Reply("", "length", Usage(), call.model, b"")
