"""What callers of a library see: the classes of the openai package, without the key."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable, Iterator

import openai
import pytest

from gptflow.engine.config import Config, KeyEntry
from gptflow.engine.engine import Engine
from gptflow.engine.secret import Secret
from gptflow.records import Call

CANARY = "sk-canary-0123456789abcdefwxyz"
Serve = Callable[..., str]
Respond = Callable[..., bytes]


def raised(base_url: str) -> openai.OpenAIError:
    async def complete() -> None:
        key = KeyEntry("main", Secret(CANARY), base_url)
        async with Engine(Config((key,)), attempts=1, timeout_s=0.3) as engine:
            await engine.complete(Call(b"", "", "m", [{"role": "user", "content": "hi"}], {}))

    with pytest.raises(openai.OpenAIError) as caught:
        asyncio.run(complete())
    return caught.value


def body(code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": f"No {CANARY}", "type": "x", "code": code}}).encode()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "context_length_exceeded", openai.BadRequestError),
        (400, "content_filter", openai.BadRequestError),
        (401, "invalid_api_key", openai.AuthenticationError),
        (402, None, openai.APIStatusError),
        (403, None, openai.PermissionDeniedError),
        (404, "model_not_found", openai.NotFoundError),
        (409, None, openai.ConflictError),
        (413, None, openai.APIStatusError),
        (422, None, openai.UnprocessableEntityError),
        (429, "insufficient_quota", openai.RateLimitError),
        (500, None, openai.InternalServerError),
        (529, None, openai.InternalServerError),
    ],
)
def test_a_status_raises_the_class_that_openai_would(
    serve: Serve, respond: Respond, status: int, code: str | None, expected: type[Exception]
) -> None:
    error = raised(serve(respond(status, body(code), x_request_id="req-1")))

    assert type(error) is expected
    assert isinstance(error, openai.APIStatusError)
    assert (error.status_code, error.code, error.request_id) == (status, code, "req-1")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HANG:", openai.APITimeoutError),
        (b"RESET:", openai.APIConnectionError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{", openai.APIResponseValidationError),
    ],
)
def test_an_attempt_without_a_reply_raises_its_class(
    serve: Serve, answer: bytes, expected: type[Exception]
) -> None:
    assert type(raised(serve(answer))) is expected


def test_a_filtered_reply_raises_its_class(serve: Serve, respond: Respond) -> None:
    filtered = b'{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}]}'

    assert type(raised(serve(respond(200, filtered)))) is openai.ContentFilterFinishReasonError


def attributes(value: object, depth: int = 4) -> Iterator[str]:
    """Every text that can be reached from a value within some steps."""
    yield f"{value!r} {value}"
    if depth and hasattr(value, "__dict__"):
        for inner in vars(value).values():
            yield from attributes(inner, depth - 1)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_no_exception_holds_the_key(serve: Serve, respond: Respond, status: int) -> None:
    error = raised(serve(respond(status, body())))
    assert isinstance(error, openai.APIStatusError)

    seen = [*attributes(error), *traceback.format_exception(error), error.response.text]
    assert not any(CANARY in text for text in seen)
    assert "authorization" not in error.request.headers
    assert (error.__cause__, error.__context__) == (None, None)
