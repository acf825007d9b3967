"""What messages of workers are to the run: calls, outcomes of attempts, results of rows."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.caller import Outcome
from gptflow.engine.config import KeyEntry
from gptflow.pipeline.plan import StepPlan
from gptflow.records import Call, Reply, Row, RowResult, RowStatus, Usage
from gptflow.runner.crew import messages as said

_unusual = msgspec.msgpack.Decoder(said.Unusual)


def call_of(asked: said.AskFor, steps: Mapping[str, StepPlan]) -> Call:
    """The call that a worker asks for, as far as the run has to know it."""
    step, tokens = steps.get(asked.step), asked.prompt_tokens
    if asked.rest is None and step is not None:
        return Call(asked.key, asked.step, step.model, [], step.params, prompt_tokens=tokens)
    rest = _unusual.decode(asked.rest or b"")
    return Call(
        asked.key,
        asked.step,
        rest.model,
        rest.messages,
        rest.params,
        rest.endpoint,
        rest.timeout_s,
        tokens,
    )


def outcome_of(message: said.Answered | said.Responded | said.Faulted) -> Outcome:
    """What came of an attempt that a worker has made."""
    match message:
        case said.Answered():
            return Response(200, message.headers, message.body, _reply(message))
        case said.Responded():
            return Response(message.status, message.headers, message.body)
        case said.Faulted():
            return TransportFault(
                FaultKind(message.kind),
                message.message,
                message.hint,
                was_stopped=message.was_stopped,
            )


def result_of(row: Row, end: said.RowEnd) -> RowResult:
    """The result of a row that a worker has brought to its end."""
    status = RowStatus.DONE if end.failure is None else RowStatus.FAILED
    return RowResult(
        row.position, status, row.raw, end.fields, end.failure, end.calls, end.truncated
    )


def told_key(number: int, key: KeyEntry, *, tells_secrets: bool) -> said.KnowKey:
    """A key, as a worker is told of it."""
    return said.KnowKey(
        number=number,
        name=key.name,
        api_key=key.api_key.reveal() if tells_secrets else None,
        base_url=key.base_url,
        organization=key.organization,
        headers=[(name, value.reveal()) for name, value in key.headers] if tells_secrets else [],
        timeout_s=key.timeout_s,
    )


def _reply(answered: said.Answered) -> Reply:
    usage = Usage(answered.prompt_tokens, answered.completion_tokens, answered.cached_tokens)
    return Reply(answered.text, answered.finish_reason, usage, answered.model, answered.body)
