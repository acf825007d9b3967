"""Failures that come with status 200: the answer itself is wrong."""

from __future__ import annotations

from typing import Any

import msgspec

from gptflow.mock.failure.model import (
    HTML,
    TEXT,
    Body,
    Completion,
    Facts,
    ServerFailure,
    changed,
    fixed,
    garbled,
    json_of,
    page,
)


def _choice(**values: Any) -> Body:
    """The answer with values of its first choice replaced."""
    return changed(lambda completion: _with_choice(completion, values))


def _message(finish_reason: str | None = "stop", **values: Any) -> Body:
    """The answer with values of its first message replaced."""

    def change(completion: Completion) -> Completion:
        choice = completion["choices"][0]
        if "message" in choice:
            told = {"message": {**choice["message"], **values}}
        else:  # the older completions endpoint has a bare text
            told = {"text": values["content"]}
        return _with_choice(completion, {**told, "finish_reason": finish_reason})

    return changed(change)


def _with_choice(completion: Completion, values: Completion) -> Completion:
    first, *others = completion["choices"]
    return {**completion, "choices": [{**first, **values}, *others]}


def _without(name: str) -> Body:
    return changed(lambda completion: {k: v for k, v in completion.items() if k != name})


def _content_in_place_of(marker: str, content: bytes) -> Body:
    """The answer with raw JSON text as its content, for what no encoder writes."""

    def body(facts: Facts, completion: Completion) -> bytes:
        return _message(content=marker)(facts, completion).replace(marker.encode(), content)

    return body


def _error_and_choices(completion: Completion) -> Completion:
    """OpenRouter's rate limit within a 200, beside a choice that says nothing."""
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    told = {"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}
    wrong = {"message": "Rate limit exceeded", "code": 429}
    return {**_with_choice(completion, told), "error": wrong, "usage": usage}


def _as_events(completion: Completion) -> bytes:
    return b"data: " + msgspec.json.encode(completion) + b"\n\ndata: [DONE]\n\n"


NO_ANSWER = (
    ServerFailure(
        "error_in_200",
        "An error object and no choices (OpenRouter, proxies).",
        200,
        json_of({"error": {"message": "Provider returned error", "code": 502}}),
    ),
    ServerFailure(
        "error_and_choices",
        "An error object beside an empty choice.",
        200,
        changed(_error_and_choices),
    ),
    ServerFailure("html_200", "An HTML page.", 200, page("Welcome"), HTML),
    ServerFailure(
        "events_200",
        "A stream of events, though none was asked for.",
        200,
        lambda _, completion: _as_events(completion),
        b"text/event-stream",
    ),
    ServerFailure("json_null", "The JSON value null.", 200, fixed(b"null")),
    ServerFailure("json_list", "An empty JSON list.", 200, fixed(b"[]")),
    ServerFailure("json_string", "A JSON string.", 200, fixed(b'"ok"')),
    ServerFailure("empty_body", "No bytes at all.", 200, fixed(b"")),
    ServerFailure("no_content_204", "Status 204.", 204, fixed(b""), b""),
    ServerFailure(
        "truncated_json",
        "Half of the JSON, with a content-length that fits the half.",
        200,
        garbled(lambda raw: raw[: len(raw) // 2]),
    ),
    ServerFailure(
        "truncated_text",
        "The same as text/plain.",
        200,
        garbled(lambda raw: raw[: len(raw) // 2]),
        TEXT,
    ),
    ServerFailure(
        "invalid_utf8",
        "A content with bytes that are not UTF-8.",
        200,
        _content_in_place_of("@", b"\xff\xfe\xc3("),
    ),
    ServerFailure(
        "corrupt_gzip",
        "A body that claims to be gzip and is not.",
        200,
        garbled(lambda raw: b"\x1f\x8b\x08\x00" + raw),
        headers=((b"content-encoding", b"gzip"),),
    ),
)

WRONG_CHOICE = (
    ServerFailure(
        "no_choices",
        "An empty list of choices.",
        200,
        changed(lambda completion: {**completion, "choices": []}),
    ),
    ServerFailure("null_message", "A choice whose message is null.", 200, _choice(message=None)),
    ServerFailure(
        "refusal",
        "The model refuses: content null, and a refusal.",
        200,
        _message(content=None, refusal="I'm sorry, I can't help with that."),
    ),
    ServerFailure(
        "finish_content_filter",
        "The answer was filtered: content null.",
        200,
        _message("content_filter", content=None),
    ),
    ServerFailure(
        "finish_length", "finish_reason is length.", 200, _choice(finish_reason="length")
    ),
    ServerFailure(
        "finish_error",
        "finish_reason is error (OpenRouter).",
        200,
        _choice(finish_reason="error"),
    ),
    ServerFailure("finish_null", "finish_reason is null.", 200, _choice(finish_reason=None)),
    ServerFailure(
        "finish_unknown",
        "finish_reason is a word that nobody knows.",
        200,
        _choice(finish_reason="eos_token_found"),
    ),
    ServerFailure("empty_content", "The content is empty.", 200, _message(content="")),
    ServerFailure(
        "reasoning_only",
        "The content is empty, and reasoning_content is not.",
        200,
        _message(content="", reasoning_content="The user wants"),
    ),
)

ODD_ANSWER = (
    ServerFailure("usage_missing", "An answer without usage.", 200, _without("usage")),
    ServerFailure(
        "byte_order_mark",
        "A byte order mark before the JSON.",
        200,
        garbled(lambda raw: b"\xef\xbb\xbf" + raw),
    ),
    ServerFailure(
        "nan_value",
        "A number that is NaN, which JSON does not have.",
        200,
        garbled(lambda raw: raw[:-1] + b',"timing":NaN}'),
    ),
    ServerFailure(
        "duplicate_key",
        "A key that is there twice, with the same value.",
        200,
        garbled(lambda raw: raw[:-1] + b',"object":"chat.completion"}'),
    ),
    ServerFailure(
        "no_content_type", "An answer without content-type.", 200, garbled(lambda raw: raw), b""
    ),
    ServerFailure(
        "nul_in_content", "A content with the character NUL.", 200, _message(content="a\x00b")
    ),
    ServerFailure(
        "lone_surrogate",
        "A content with half of a surrogate pair, which UTF-8 cannot hold.",
        200,
        _content_in_place_of("@", rb"a\ud83db"),
    ),
)
