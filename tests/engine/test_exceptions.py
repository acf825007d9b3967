"""What callers of a library see: the classes of the openai package, without the key."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import pickle
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


def test_a_timeout_says_in_a_note_which_key_and_host_it_waited_for(serve: Serve) -> None:
    base_url = serve(b"HANG:")
    host = base_url.removeprefix("http://").removesuffix("/v1")
    error = raised(base_url)

    assert error.__notes__ == [f"main: no whole reply from {host} in 0.3 s"]
    assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__


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


@pytest.mark.parametrize(
    "answer",
    [
        b"HANG:",
        b"RESET:",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-length: 62\r\n\r\n"
        b'{"choices":[{"message":{"refusal":"no"},"finish_reason":null}]}'[:62],
        *(
            f"HTTP/1.1 {status} X\r\ncontent-length: 38\r\nx-request-id: r\r\n\r\n".encode()
            + b'{"error":{"message":"m","code":"abc"}}'
            for status in (400, 401, 402, 408, 413, 500)
        ),
    ],
    ids=range(10),
)
def test_an_exception_survives_pickling_and_copying(serve: Serve, answer: bytes) -> None:
    error = raised(serve(answer))
    error.add_note("attempt 1: something")
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.__notes__) == (str(error), error.__notes__)
        for name in ("status_code", "body", "code", "param", "type", "request_id", "message"):
            assert getattr(again, name, None) == getattr(error, name, None)
        assert isinstance(pickle.loads(pickle.dumps(again)), type(error))


def test_pickling_drops_the_key_of_an_exception_that_openai_raised(
    serve: Serve, respond: Respond
) -> None:
    base_url = serve(respond(429, b'{"error":{"message":"m","code":"insufficient_quota"}}'))
    raised(base_url)
    with (
        openai.OpenAI(api_key=CANARY, base_url=base_url, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.models.list()
    pickled = pickle.dumps(caught.value)

    assert CANARY.encode() not in pickled
    assert pickle.loads(pickled).code == "insufficient_quota"


def test_the_headers_that_callers_read_are_there_and_no_others(
    serve: Serve, respond: Respond
) -> None:
    headers = {"Retry_After": "3", "x_ratelimit_remaining_requests": "0"}
    odd = {"www_authenticate": f"Bearer {CANARY}", "set_cookie": "a=b"}
    error = raised(serve(respond(400, body(), **headers, **odd)))

    assert isinstance(error, openai.APIStatusError)
    assert error.response.headers["retry-after"] == "3"
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert "www-authenticate" not in error.response.headers
    assert "set-cookie" not in error.response.headers


def test_a_packed_error_can_be_read(serve: Serve, respond: Respond) -> None:
    packed = gzip.compress(b'{"error":{"message":"too long","param":"messages","type":"t"}}')
    error = raised(serve(respond(400, packed, content_encoding="gzip")))

    assert isinstance(error, openai.BadRequestError)
    assert (error.param, error.type) == ("messages", "t")
    assert error.response.json()["error"]["message"] == "too long"


@pytest.mark.parametrize(
    ("raw", "inner", "code"),
    [
        (b'{"error":{"message":"m","code":400}}', {"message": "m", "code": 400}, "400"),
        (b'{"error":"no such model"}', "no such model", None),
        (b'{"detail":"Not Found"}', {"detail": "Not Found"}, None),
        (b'[{"error":{"message":"m","code":4}}]', [{"error": {"message": "m", "code": 4}}], None),
        (b"plain", "plain", None),
    ],
)
def test_body_and_code_are_what_openai_makes_of_them(
    serve: Serve, respond: Respond, raw: bytes, inner: object, code: str | None
) -> None:
    base_url = serve(respond(422, raw))
    ours = raised(base_url)
    with (
        openai.OpenAI(api_key=CANARY, base_url=base_url, max_retries=0) as client,
        pytest.raises(openai.UnprocessableEntityError) as caught,
    ):
        client.models.list()
    theirs = caught.value

    assert isinstance(ours, openai.UnprocessableEntityError)
    assert ours.body == theirs.body == inner
    assert ours.code == theirs.code == code
    assert (ours.type, ours.param) == (theirs.type, theirs.param)


def test_a_refusal_is_told_in_a_note(serve: Serve, respond: Respond) -> None:
    refusal = b'{"choices":[{"message":{"refusal":"I cannot."},"finish_reason":"stop"}]}'
    error = raised(serve(respond(200, refusal)))

    assert "I cannot." in error.__notes__[0]
