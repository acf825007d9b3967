"""One row going through its steps: a generator that yields calls and is sent their replies.

It never waits and never touches the network, so the same lines serve every mode: whoever drives
it answers each call as it can, from the store, from a model, or from a file. A step that is a
function of the user's is such a request too: it is answered with what the function gives.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from gptflow.errors import RowFailed
from gptflow.pipeline.extract.invalid import Invalid
from gptflow.pipeline.hook import Hook, HookFault
from gptflow.pipeline.hook_value import fields_of, own_copy
from gptflow.pipeline.names import names_of
from gptflow.pipeline.plan import Plan, StepPlan
from gptflow.pipeline.prompts import RENDER_ERRORS
from gptflow.records import Call, Failure, FailureKind, Fields, Message, Reply, Row, unwritable


@dataclass(frozen=True, slots=True)
class HookCall:
    """A function of the user's that is to be called about a row."""

    step: StepPlan
    row: Row
    given: dict[str, Any]
    """What it is called with: the row's columns and its fields so far, a copy of its own."""

    @property
    def hook(self) -> Hook:
        """The function."""
        assert self.step.python is not None
        return self.step.python.hook

    @property
    def may_ask(self) -> bool:
        """Whether it gets a wrapper, which asks the model."""
        return self.hook.takes_second

    def fields(self, given: Any) -> Fields:
        """The step's fields of what the function gives, none of it the function's any more.

        Raises:
            HookFault: it has given something else.
        """
        python = self.step.python
        assert python is not None
        return self.hook.taken(lambda it: fields_of(it, python.fields), given)


Conversation = Generator[Call | HookCall, Any, Fields]
"""Yields the calls of a row, is sent their replies, returns the row's fields.

A HookCall is answered with what the function gives, or with the fields of that; where it fails,
the HookFault is thrown in.
"""

Names = dict[str, Any]
"""What the templates of a row see, by name."""


def converse(plan: Plan, row: Row, *, patient: bool = True) -> Conversation:
    """Takes a row through the steps of a plan.

    The fields come in the order of the spec; those of a step that `when` leaves out, or that
    `on_invalid: {then: keep}` gives up, are None.

    Raises:
        RowFailed: a template cannot be rendered for this row, or no reply was accepted.
            A function of the user's failed, or gave something else than the step's fields.
        TakesLong: not `patient`, and a reply cannot be searched in a moment, or a function of the
            user's is to look at it.
    """
    steps: dict[str, Any] = {}
    names: Names = names_of(plan.vars, row.columns) | {"steps": steps}
    messages: list[Message] = []
    fields: Fields = {}
    for step in plan.steps:
        reply, found = None, dict.fromkeys(step.fields)
        if _is_wanted(step, names):
            try:
                if step.python:
                    found = yield from _called(step, row, fields)
                else:
                    messages.extend(_turns(step, names))
                    asking = _Asking(step, row, fields, patient)
                    reply, found = yield from _answer(asking, messages)
            except HookFault as fault:
                raise RowFailed(hook_failure(step.name, fault)) from None
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


def hook_failure(step: str, fault: HookFault) -> Failure:
    """Why a row fails whose hook has failed."""
    return Failure(FailureKind.HOOK, f"python of step {step!r}: {fault}", step=step)


def _called(step: StepPlan, row: Row, fields: Fields) -> Generator[HookCall, Any, Fields]:
    """The fields that a function gives, if they are what the spec says."""
    wanted = HookCall(step, row, own_copy({**row.columns, **fields}))
    return wanted.fields((yield wanted))


@dataclass(frozen=True, slots=True)
class _Asking:
    """A step that asks its question of a row."""

    step: StepPlan
    row: Row
    fields: Fields
    """Of the steps before it."""
    patient: bool

    def extract(self, text: str) -> Fields:
        """The step's fields out of a reply."""
        return self.step.extract(text, patient=self.patient, row=self._known)

    def _known(self) -> dict[str, Any]:
        known: dict[str, Any] = own_copy({**self.row.columns, **self.fields})
        return known


def _answer(asking: _Asking, messages: list[Message]) -> Generator[Call, Reply, tuple[str, Fields]]:
    """Asks until a reply is accepted or the step gives up; the messages grow by every turn."""
    step = asking.step
    for reasks_left in range(step.reask, -1, -1):
        reply = yield _call(step, asking.row, messages)
        messages.append({"role": "assistant", "content": reply.text})
        try:
            return reply.text, asking.extract(reply.text)
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
        raise RowFailed(unwritable(step.name)) from None


def _template_failure(step: StepPlan, what: str, error: Exception) -> Failure:
    message = f"{what} of step {step.name!r}: {error}"
    return Failure(FailureKind.TEMPLATE, message, step=step.name)
