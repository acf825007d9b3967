"""Builds the exceptions of the openai package, for callers that catch those."""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

from gptflow.engine.attempt import FaultKind, Response, TransportFault
from gptflow.engine.limits import header
from gptflow.records import Failure, FailureKind

_CLASSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
_SERVER_ERROR = 500
_KEPT_HEADERS = ("content-type", "x-request-id", "retry-after", "retry-after-ms")


def to_openai_error(
    failure: Failure, outcome: Response | TransportFault, url: str
) -> openai.OpenAIError:
    """The exception that the openai package would raise for an attempt.

    It has the status, the body and a request without headers. A failure inside a 200 that openai
    lets pass becomes an APIResponseValidationError, or what its inner status stands for.
    """
    http = http_library()
    request = http.Request("POST", url)
    if isinstance(outcome, TransportFault):
        if outcome.kind is FaultKind.TIMEOUT:
            return openai.APITimeoutError(request)
        return openai.APIConnectionError(message=failure.message, request=request)
    if failure.kind is FailureKind.REFUSED and outcome.status not in _CLASSES:
        return openai.ContentFilterFinishReasonError()
    status = failure.status or outcome.status
    kept = {name: header(outcome.headers, name) for name in _KEPT_HEADERS}
    response = http.Response(
        status,
        headers={name: value for name, value in kept.items() if value},
        content=outcome.body,
        request=request,
    )
    body = _inner(outcome.body)
    if status in range(200, 300):
        return openai.APIResponseValidationError(response, body, message=failure.message)
    by_default = openai.InternalServerError if status >= _SERVER_ERROR else openai.APIStatusError
    message = f"Error code: {status} - {failure.message}"
    return _CLASSES.get(status, by_default)(message, response=response, body=body)


def http_library() -> Any:
    """The HTTP library that openai stands on: httpx for openai 2, httpx2 for openai 3."""
    lineage = (cls.__module__.partition(".")[0] for cls in openai.DefaultHttpxClient.__mro__)
    return sys.modules[next(name for name in lineage if name != "openai")]


def _inner(body: bytes) -> object:
    """What openai keeps as `body`: the inner error object, else the value, else the text."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    return value.get("error", value) if isinstance(value, dict) else value
