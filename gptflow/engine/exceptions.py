"""Builds the exceptions of the openai package, for callers that catch those."""

from __future__ import annotations

import copyreg
import json
import re
import sys
from collections.abc import Callable, Mapping
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
_KEPT_HEADERS = re.compile(
    r"content-type|date|server|retry-after(-ms)?|(x-)?request-id|x-should-retry|cf-ray"
    r"|(x|anthropic)-ratelimit-.+|openai-(processing-ms|version|model)|(apim|x-ms)-.+"
)
"""What callers read. Others might quote the key, as www-authenticate does at some proxies."""


def to_openai_error(
    failure: Failure, outcome: Response | TransportFault, url: str
) -> openai.OpenAIError:
    """The exception that the openai package would raise for an attempt.

    It has the status, the body and a request without headers. A failure inside a 200 that openai
    lets pass becomes an APIResponseValidationError, or what its inner status stands for. Unlike
    openai's own it survives pickling and copying.
    """
    request = http_library().Request("POST", url)
    if isinstance(outcome, TransportFault):
        if outcome.kind is FaultKind.TIMEOUT:
            return _pickling(openai.APITimeoutError(request))
        return _pickling(openai.APIConnectionError(message=failure.message, request=request))
    if failure.kind is FailureKind.REFUSED and outcome.status not in _CLASSES:
        filtered = openai.ContentFilterFinishReasonError()
        filtered.add_note(failure.message)
        return _pickling(filtered)
    status = failure.status or outcome.status
    response = _response(request, status, _kept(outcome.headers), outcome.body)
    body = _inner(outcome.body)
    if status in range(200, 300):
        told = failure.message
        return _pickling(openai.APIResponseValidationError(response, body, message=told))
    by_default = openai.InternalServerError if status >= _SERVER_ERROR else openai.APIStatusError
    message = f"Error code: {status} - {failure.message}"
    return _pickling(_CLASSES.get(status, by_default)(message, response=response, body=body))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    names = [name.lower() for name in headers if _KEPT_HEADERS.fullmatch(name.lower())]
    read = {name: header(headers, name) for name in names}
    return {name: value for name, value in read.items() if value}


def _response(request: Any, status: int, headers: Mapping[str, str], content: bytes) -> Any:
    return http_library().Response(status, headers=headers, content=content, request=request)


def _pickling(error: openai.OpenAIError) -> openai.OpenAIError:
    """`error`, after telling pickle about its class, whose own way cannot be read back."""
    copyreg.pickle(type(error), _reduced)
    return error


def _reduced(
    error: openai.OpenAIError,
) -> tuple[Callable[..., openai.OpenAIError], tuple[Any, ...]]:
    """An exception as plain data: neither the headers of its request nor its causes go along."""
    notes = tuple(getattr(error, "__notes__", ()))
    if not isinstance(error, openai.APIError):
        return _filtered, (notes,)
    response = getattr(error, "response", None)
    parts = response and (response.status_code, _kept(response.headers), response.content)
    return _rebuilt, (type(error), error.message, str(error.request.url), parts, error.body, notes)


def _filtered(notes: tuple[str, ...]) -> openai.OpenAIError:
    return _noted(openai.ContentFilterFinishReasonError(), notes)


def _rebuilt(
    kind: Any,
    message: str,
    url: str,
    parts: tuple[int, dict[str, str], bytes] | None,
    body: object,
    notes: tuple[str, ...],
) -> openai.OpenAIError:
    request = http_library().Request("POST", url)
    if parts is not None:
        response = _response(request, *parts)
        if kind is openai.APIResponseValidationError:
            return _noted(kind(response, body, message=message), notes)
        return _noted(kind(message, response=response, body=body), notes)
    if kind is openai.APITimeoutError:
        return _noted(kind(request), notes)
    return _noted(kind(message=message, request=request), notes)


def _noted(error: openai.OpenAIError, notes: tuple[str, ...]) -> openai.OpenAIError:
    for note in notes:
        error.add_note(note)
    return _pickling(error)


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
