"""Why a batch fails before its first line is answered, though its file may be right."""

from __future__ import annotations

import time

import msgspec

from gptflow.mock.batch.course import Course
from gptflow.mock.batch.question import Input, InputError
from gptflow.mock.batch.record import Batch
from gptflow.mock.batch.shelf import Shelf
from gptflow.mock.failure.limits import MONEY
from gptflow.mock.simulator import Simulator

_OF_MONEY = frozenset(failure.name for failure in MONEY)
_WAITABLE = "token_limit_exceeded"
_DEFAULT_LIMIT = 90_000
"""What the message claims, if the scenario sets none: that of the smallest paying customers."""


class Objections:
    """All that is said against batches. It knows what else waits."""

    def __init__(self, simulator: Simulator, batches: Shelf[Batch]) -> None:
        self._simulator = simulator
        self._rules = simulator.batch_rules
        self._batches = batches

    def to(self, batch: Batch, found: Input, course: Course) -> list[InputError]:
        """Why it fails; if it does not, it is taken up, and its tokens count."""
        if batch.input is None:
            return [self._no_file(batch)]
        if found.errors:
            return found.errors
        batch.model = found.model
        if course.end and course.end.status == "failed":
            return [self.scripted(batch, course.end.code)]
        other = self._unpaid(batch) or self._queue_full(batch, found.prompt_tokens)
        if other is not None:
            return [other]
        batch.total = len(found.questions)
        batch.enqueued_tokens = found.prompt_tokens
        return []

    def scripted(self, batch: Batch, code: str) -> InputError:
        """What a batch says that fails since the scenario wants it."""
        if code == _WAITABLE:
            return self._limit_reached(batch)
        return InputError(code, "The server had an error while processing your batch.")

    def _no_file(self, batch: Batch) -> InputError:
        message = (
            f"Cannot find file {batch.order.input_file_id}, or organization "
            f"{self._simulator.organization(batch.key)} does not have access to it."
        )
        return InputError("invalid_request", message, "file_id")

    def _unpaid(self, batch: Batch) -> InputError | None:
        """What is said to a key that has no money."""
        moment = self._simulator.moment(time.monotonic(), time.time(), 0)
        answer = self._simulator.key_failure(batch.key, moment)
        if answer is None or answer.failure not in _OF_MONEY:
            return None
        error = msgspec.json.decode(answer.body)["error"]
        return InputError(str(error.get("code") or answer.failure), error["message"])

    def _queue_full(self, batch: Batch, tokens: int) -> InputError | None:
        limit = self._rules.enqueued_tokens
        if limit is None:
            return None
        waiting = sum(
            other.enqueued_tokens
            for other in self._batches.of(batch.owner)
            if other.model == batch.model and not other.has_ended
        )
        return self._limit_reached(batch) if waiting + tokens > limit else None

    def _limit_reached(self, batch: Batch) -> InputError:
        message = (
            f"Enqueued token limit reached for {batch.model} in organization "
            f"{self._simulator.organization(batch.key)}. Limit: "
            f"{self._rules.enqueued_tokens or _DEFAULT_LIMIT:,} enqueued tokens. Please try again "
            "once some in_progress batches have been completed."
        )
        return InputError(_WAITABLE, message)
