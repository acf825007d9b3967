"""One row going through its steps: a generator that yields calls and is sent their replies.

It never waits and never touches the network, so the same lines serve every mode: whoever drives
it answers each call as it can, from the store, from a model, or from a file.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from gptflow.errors import RowFailed
from gptflow.pipeline.extract.invalid import Invalid
from gptflow.pipeline.names import names_of
from gptflow.pipeline.plan import Plan, StepPlan
from gptflow.pipeline.prompts import RENDER_ERRORS
from gptflow.records import Call, Failure, FailureKind, Fields, Message, Reply, Row

Conversation = Generator[Call, Reply, Fields]
"""Yields the calls of a row, is sent their replies, returns the row's fields."""

Names = dict[str, Any]
"""What the templates of a row see, by name."""


def converse(plan: Plan, row: Row, *, patient: bool = True) -> Conversation:
    """Takes a row through the steps of a plan.

    The fields come in the order of the spec; those of a step that `when` leaves out, or that
    `on_invalid: {then: keep}` gives up, are None.

    Raises:
        RowFailed: a template cannot be rendered for this row, or no reply was accepted.
        TakesLong: not `patient`, and a reply cannot be searched in a moment.
    """
    steps: dict[str, Any] = {}
    names: Names = names_of(plan.vars, row.columns) | {"steps": steps}
    messages: list[Message] = []
    fields: Fields = {}
    for step in plan.steps:
        reply, found = None, dict.fromkeys(step.fields)
        if _is_wanted(step, names):
            messages.extend(_turns(step, names))
            reply, found = yield from _answer(step, row, messages, patient=patient)
        fields |= found
        names |= found
        steps[step.name] = {"reply": reply, "fields": found}
    return fields


def _is_wanted(step: StepPlan, names: Names) -> bool:
    if step.when is None:
        return True
    try:
        return bool(step.when(names))
    except RENDER_ERRORS as error:
        raise RowFailed(_template_failure(step, "when", error)) from error


def _turns(step: StepPlan, names: Names) -> list[Message]:
    """The messages that a step adds to the conversation before it is asked."""
    turns: list[Message] = []
    for turn in step.turns:
        try:
            turns.append({"role": turn.role, "content": turn.text(names)})
        except RENDER_ERRORS as error:
            raise RowFailed(_template_failure(step, turn.what, error)) from error
    return turns


def _answer(
    step: StepPlan, row: Row, messages: list[Message], *, patient: bool
) -> Generator[Call, Reply, tuple[str, Fields]]:
    """Asks until a reply is accepted or the step gives up; the messages grow by every turn."""
    for reasks_left in range(step.reask, -1, -1):
        reply = yield _call(step, row, messages)
        messages.append({"role": "assistant", "content": reply.text})
        try:
            return reply.text, step.extract(reply.text, patient=patient)
        except Invalid as invalid:
            complaint = f"{invalid}; the reply was cut off" if reply.truncated else str(invalid)
        if reasks_left:
            messages.append({"role": "user", "content": step.correction(complaint)})
    if step.keep_invalid:
        return reply.text, dict.fromkeys(step.fields)
    raise RowFailed(
        Failure(
            FailureKind.INVALID,
            complaint,
            step=step.name,
            attempts=step.reask + 1,
            replies=step.reask + 1,
            reply=reply.text,
        )
    )


def _call(step: StepPlan, row: Row, messages: list[Message]) -> Call:
    try:
        return step.call(messages, row)
    except UnicodeEncodeError:
        message = "a message holds half of a surrogate pair, which UTF-8 cannot carry"
        failure = Failure(FailureKind.REJECTED, message, step=step.name)
        raise RowFailed(failure) from None


def _template_failure(step: StepPlan, what: str, error: Exception) -> Failure:
    message = f"{what} of step {step.name!r}: {error}"
    return Failure(FailureKind.TEMPLATE, message, step=step.name)
