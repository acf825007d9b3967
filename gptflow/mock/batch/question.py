"""The lines of a batch's input file, and what OpenAI finds wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gptflow.mock.batch.slices import sliced
from gptflow.mock.request import BadRequestError, Endpoint, read_request

_MAX_ERRORS = 100
_REQUIRED = ("custom_id", "method", "url", "body")
_ASKED: dict[Endpoint, str] = {"chat/completions": "messages", "completions": "prompt"}
_NO_BODY = msgspec.Raw()


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
    """An input file as far as it was understood."""

    questions: list[Question] = msgspec.field(default_factory=list)
    errors: list[InputError] = msgspec.field(default_factory=list)
    model: str | None = None
    prompt_tokens: int = 0
    """Where they are counted: that takes as long as all the rest."""


class Terms(msgspec.Struct, frozen=True):
    """What an input file has to comply with."""

    endpoint: Endpoint
    max_lines: int
    serves: Callable[[str], bool]
    """Whether there is a model of this name."""
    counts_tokens: bool


class _Line(msgspec.Struct):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = _NO_BODY


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None
    messages: msgspec.Raw = _NO_BODY
    prompt: msgspec.Raw = _NO_BODY


async def read_input(content: bytes | bytearray, terms: Terms) -> Input:
    """All questions of a file; or what is wrong with it, at most a hundred times."""
    reader = _Reader(terms)
    async for number, line in sliced(enumerate(_lines(content), start=1)):
        if not reader.takes(number, line):
            break
    found = reader.found
    if not found.questions and not found.errors:
        found.errors.append(InputError("empty_file", _EMPTY))
    return found


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

    def __init__(self, terms: Terms) -> None:
        self.found = Input()
        self._terms = terms
        self._ids: set[str] = set()
        self._decoder = msgspec.json.Decoder(_Line)
        self._body_decoder = msgspec.json.Decoder(_Body)

    def takes(self, number: int, line: bytes) -> bool:
        """Read a line. False: no further one is worth reading."""
        found = self.found
        if not line.strip():
            return True
        if len(found.questions) >= self._terms.max_lines:
            found.errors.append(InputError("too_many_tasks", _TOO_MANY.format(self._terms)))
            return False
        read = self._read(line)
        if isinstance(read, InputError):
            found.errors.append(msgspec.structs.replace(read, line=number))
        else:
            found.questions.append(read)
        return len(found.errors) < _MAX_ERRORS

    def _read(self, line: bytes) -> Question | InputError:
        try:
            told = self._decoder.decode(line)
            body = self._body_decoder.decode(told.body or b"{}")
        except msgspec.ValidationError:  # an array in place of an object
            return InputError("invalid_request", "This line is not a valid batch request.")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return InputError("invalid_json_line", "This line is not parseable as valid JSON.")
        wrong = self._misfit(told) or self._wrong_body(body)
        if wrong is not None:
            return wrong
        question = Question(told.custom_id, bytes(told.body))
        self._ids.add(question.custom_id)
        if self._terms.counts_tokens:
            self.found.prompt_tokens += _prompt_tokens(self._terms.endpoint, question.body)
        return question

    def _misfit(self, told: _Line) -> InputError | None:
        """What is wrong around the request itself."""
        for name in _REQUIRED:
            if not getattr(told, name):
                message = f"Missing required parameter: '{name}'."
                return InputError("missing_required_parameter", message, name)
        if not isinstance(told.custom_id, str):
            return InputError("invalid_type", _NO_STRING, "custom_id")
        if told.custom_id in self._ids:
            message = _DUPLICATE.format(told.custom_id)
            return InputError("duplicate_custom_id", message, "custom_id")
        if told.method != "POST":
            return InputError("invalid_method", _NO_POST.format(told.method), "method")
        if told.url != f"/v1/{self._terms.endpoint}":
            return InputError("invalid_url", _OTHER_URL, "url")
        return None

    def _wrong_body(self, body: _Body) -> InputError | None:
        """What OpenAI finds in a request before any model sees it."""
        if not isinstance(body.model, str):
            return InputError("invalid_request", "Model parameter is required.", "body.model")
        asked = _ASKED[self._terms.endpoint]
        if not getattr(body, asked):
            message = f"{asked.capitalize()} parameter is required."
            return InputError("invalid_request", message, f"body.{asked}")
        if body.stream:
            return InputError("streaming_unsupported", _NO_STREAM, "body.stream")
        if self.found.model is None:
            self.found.model = body.model
        if body.model != self.found.model:
            return InputError("mismatched_model", _OTHER_MODEL.format(body.model), "body.model")
        if not self._terms.serves(body.model):
            return InputError("model_not_found", _NO_MODEL.format(body.model), "body.model")
        return None


def _prompt_tokens(endpoint: Endpoint, body: bytes) -> int:
    try:
        return read_request(endpoint, "", body).prompt_tokens
    except BadRequestError:
        return 0


_EMPTY = "The input file is empty. Please ensure that the batch contains at least one request."
_TOO_MANY = (
    "The batch input file contains more than {0.max_lines} requests, which is the maximum for a "
    "batch."
)
_NO_STRING = "Invalid type for 'custom_id': expected a string."
_DUPLICATE = (
    "The custom_id '{}' for this request is a duplicate of another request. The custom_id "
    "parameter must be unique for each request in a batch."
)
_NO_POST = "Invalid value: '{}'. Supported values are: 'POST'."
_OTHER_URL = "The URL provided for this request does not match the batch endpoint."
_OTHER_MODEL = (
    "The model '{}' for this request does not match the rest of the batch. Each batch must "
    "contain requests for a single model."
)
_NO_MODEL = "The provided model '{}' is not supported by the Batch API."
_NO_STREAM = "Chat Completions: Streaming is not supported in the Batch API."
