"""The two files that a batch writes, line by line."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gptflow.mock.answer import Answer
from gptflow.mock.batch.question import Question
from gptflow.mock.batch.record import Batch

_SUCCESSES = range(200, 300)
_GIVEN_UP = {
    "expired": (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was executed."),
}
_TIMEOUT = {"code": "request_timeout", "message": "The request to the model timed out."}


class Results:
    """What became of the lines of a batch. They are told in the order in which they come here."""

    def __init__(self, batch: Batch) -> None:
        self.output = bytearray()
        """The lines that a model has answered."""
        self.errors = bytearray()
        """The others."""
        self._batch = batch
        self._token = batch.id.removeprefix("batch_")

    def add(self, question: Question, answer: Answer) -> None:
        """Note an answer. One whose connection would break is a timeout here."""
        batch = self._batch
        if answer.cut is not None:
            self._fail(question, None, _TIMEOUT)
        elif answer.status not in _SUCCESSES:
            self._fail(question, self._response(answer), None)
        else:
            self.output += self._line(question, self._response(answer), None)
            batch.completed += 1
            batch.prompt_tokens += answer.request.prompt_tokens if answer.request else 0
            batch.completion_tokens += answer.completion_tokens

    def give_up(self, question: Question, ending: str) -> None:
        """Note a line that was not come to before the batch expired or was cancelled."""
        code, message = _GIVEN_UP[ending]
        self._fail(question, None, {"code": code, "message": message})

    def _fail(
        self, question: Question, response: dict[str, Any] | None, error: dict[str, str] | None
    ) -> None:
        self.errors += self._line(question, response, error)
        self._batch.failed += 1

    def _response(self, answer: Answer) -> dict[str, Any]:
        return {
            "status_code": answer.status,
            "request_id": f"{self._token}{self._place():06x}",
            "body": _as_json(answer),
        }

    def _line(
        self, question: Question, response: dict[str, Any] | None, error: dict[str, str] | None
    ) -> bytes:
        line = {
            "id": f"batch_req_{self._token}{self._place():06x}",
            "custom_id": question.custom_id,
            "response": response,
            "error": error,
        }
        return msgspec.json.encode(line) + b"\n"

    def _place(self) -> int:
        return self._batch.completed + self._batch.failed


def _as_json(answer: Answer) -> msgspec.Raw | str:
    """The body of an answer; as a text where it is no JSON."""
    if answer.failure is not None:
        try:
            json.loads(answer.body)
        except ValueError:
            return answer.body.decode("utf-8", "replace")
    return msgspec.Raw(answer.body)
