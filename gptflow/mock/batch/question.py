"""The lines of a batch's input file, and what OpenAI finds wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gptflow.mock.batch.slices import sliced

_MAX_ERRORS = 100
_REQUIRED = ("custom_id", "method", "url", "body")


class Question(msgspec.Struct, frozen=True):
    """One line that is to be answered."""

    custom_id: str
    body: bytes
    """The request's body, as JSON."""


class InputError(msgspec.Struct, frozen=True):
    """Why a batch cannot begin, as the API tells it."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None
    """From 1."""


class Input(msgspec.Struct):
    """An input file as it was understood."""

    questions: list[Question] = msgspec.field(default_factory=list)
    errors: list[InputError] = msgspec.field(default_factory=list)
    model: str | None = None


class _Line(msgspec.Struct):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw()  # a union with None would not hold it


class _Body(msgspec.Struct):
    model: Any = None


async def read_input(content: bytes | bytearray, endpoint: str, max_lines: int) -> Input:
    """All questions of a file; or what is wrong with it, at most a hundred times."""
    reader = _Reader(endpoint, max_lines)
    async for number, line in sliced(enumerate(_lines(content), start=1)):
        if not reader.takes(number, line):
            break
    found = reader.found
    if not found.questions and not found.errors:
        found.errors.append(InputError("empty_file", _EMPTY))
    return found


_EMPTY = "The input file is empty. Please ensure that the batch contains at least one request."


def _lines(content: bytes | bytearray) -> Iterator[bytes]:
    """Line by line: a split would hold the whole file twice."""
    begin = 0
    while begin < len(content):
        end = content.find(b"\n", begin)
        end = len(content) if end < 0 else end
        yield bytes(content[begin:end])
        begin = end + 1


class _Reader:
    """Takes one line after the other."""

    def __init__(self, endpoint: str, max_lines: int) -> None:
        self.found = Input()
        self._endpoint = endpoint
        self._max_lines = max_lines
        self._ids: set[str] = set()
        self._decoder = msgspec.json.Decoder(_Line)
        self._body_decoder = msgspec.json.Decoder(_Body)

    def takes(self, number: int, line: bytes) -> bool:
        """Read a line. False: no further one is worth reading."""
        if not line.strip():
            return True
        if len(self.found.questions) >= self._max_lines:
            message = (
                f"The batch input file contains more than {self._max_lines:,} requests, which is "
                "the maximum for a single batch."
            )
            self.found.errors.append(InputError("too_many_tasks", message))
            return False
        read = self._read(line)
        if isinstance(read, InputError):
            self.found.errors.append(msgspec.structs.replace(read, line=number))
        else:
            self.found.questions.append(read)
        return len(self.found.errors) < _MAX_ERRORS

    def _read(self, line: bytes) -> Question | InputError:
        try:
            told = self._decoder.decode(line)
            body = self._body_decoder.decode(told.body or b"{}")
        except msgspec.ValidationError:
            return InputError("invalid_request", "This line is not a valid batch request.")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return InputError("invalid_json_line", "This line is not parseable as valid JSON.")
        for name in _REQUIRED:
            if not getattr(told, name):
                message = f"Missing required parameter: '{name}'."
                return InputError("missing_required_parameter", message, name)
        return self._misfit(told, body) or self._question(told)

    def _question(self, told: _Line) -> Question:
        self._ids.add(told.custom_id)
        return Question(told.custom_id, bytes(told.body))

    def _misfit(self, told: _Line, body: _Body) -> InputError | None:
        """What is wrong with a line beside the other lines."""
        if not isinstance(told.custom_id, str):
            message = "Invalid type for 'custom_id': expected a string."
            return InputError("invalid_type", message, "custom_id")
        if told.custom_id in self._ids:
            message = (
                f"The custom_id '{told.custom_id}' for this request is a duplicate of another "
                "request. The custom_id parameter must be unique for each request in a batch."
            )
            return InputError("duplicate_custom_id", message, "custom_id")
        if told.method != "POST":
            message = f"Invalid method '{told.method}'. Only POST is supported."
            return InputError("invalid_method", message, "method")
        if told.url != self._endpoint:
            message = "The URL provided for this request does not match the batch endpoint."
            return InputError("mismatched_url", message, "url")
        return self._other_model(body.model)

    def _other_model(self, model: Any) -> InputError | None:
        if not isinstance(model, str):
            message = "Missing required parameter: 'body.model'."
            return InputError("missing_required_parameter", message, "body.model")
        if self.found.model is None:
            self.found.model = model
        if model == self.found.model:
            return None
        message = (
            f"The model '{model}' for this request does not match the rest of the batch. Each "
            "batch must contain requests for a single model."
        )
        return InputError("mismatched_model", message, "body.model")
