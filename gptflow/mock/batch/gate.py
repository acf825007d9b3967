"""Who may ask about files and batches, and which of these requests fail by the scenario."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gptflow.mock.answer import Answer, Incoming, Moment, refused
from gptflow.mock.failure.model import Framing
from gptflow.mock.script import FailureScript
from gptflow.mock.simulator import Simulator

_MISSING_SCOPE = (
    "You have insufficient permissions for this operation. Missing scopes: api.{}.{}. Check that "
    "you have the correct role in your organization (Reader, Writer, Owner) and project (Member, "
    "Owner), and if you're using a restricted API key, that it has the necessary scopes."
)


class Gate:
    """What stands between a request and what it asks for."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._rules = simulator.batch_rules
        self._script = FailureScript(self._rules.requests, simulator.seed)

    def passed(self, incoming: Incoming, moment: Moment, do: Callable[[], Answer]) -> Answer:
        """The answer of `do`, or what comes in its place.

        Where the connection or the answer is bad, it is done all the same: the client does not
        hear of it.
        """
        barred = self._simulator.refusal(incoming.key, moment) or self._out_of_scope(incoming)
        if barred is not None:
            return barred
        asked = self._simulator.stand_in(incoming)
        rule = self._script.next_for(asked, moment.since_s)
        if rule is None:
            return do()
        failure = self._simulator.failure(rule, asked, moment)
        if failure.cut is None and failure.status >= 300:
            return failure
        return _spoilt(do(), failure)

    def _out_of_scope(self, incoming: Incoming) -> Answer | None:
        """The refusal of a key that was not made for this."""
        if self._rules.access and self._simulator.may_batch(incoming.key):
            return None
        kind = "files" if "/files" in incoming.path else "batch"
        message = _MISSING_SCOPE.format(kind, "read" if incoming.method == "GET" else "write")
        return refused(self._rules.refusal, message, None, "missing_scope")


def _spoilt(answer: Answer, failure: Answer) -> Answer:
    """An answer of which the client gets something else, or not all."""
    whole = failure.cut is not None and failure.cut.framing is not Framing.NONE
    if whole:
        return msgspec.structs.replace(answer, cut=failure.cut, failure=failure.failure)
    halved = (failure.failure or "").startswith("truncated_")
    body = answer.body[: len(answer.body) // 2] if halved else failure.body
    return msgspec.structs.replace(failure, body=body, made=answer.made, lines=answer.lines)
