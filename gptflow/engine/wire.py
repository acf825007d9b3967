"""The wire form of chat completions: a call to bytes, and a response body to a reply.

https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gptflow.engine.attempt import Flaw, FlawKind
from gptflow.engine.error_body import one_line, read_error
from gptflow.records import Call, Reply, Usage


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    """The members that we read; the rest of the body is not even decoded."""

    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Completion)


def encode(call: Call) -> bytes:
    """The request body of a call: the same bytes for the same call.

    Raises:
        UnicodeEncodeError: a message holds half of a surrogate pair, which UTF-8 cannot carry.
    """
    return _encoder.encode({"model": call.model, "messages": call.messages, **call.params})


def decode(body: bytes) -> Reply | Flaw:
    """The reply in the body of a response of status 200, or why there is none."""
    try:
        completion = _decoder.decode(body)
    except (ValueError, RecursionError):
        return _decode_odd(body)
    if completion.error is not None or not completion.choices:
        return _decode_odd(body)
    return _reply(completion, body)


def _reply(completion: _Completion, body: bytes) -> Reply | Flaw:
    choice = completion.choices[0]
    message = choice.message
    text, finish_reason = message.content or "", choice.finish_reason
    # A missing finish_reason is a cut stream by the book, but some local servers never send one.
    reply = Reply(
        text=text,
        finish_reason=finish_reason,
        usage=_counted(completion.usage),
        model=completion.model or "",
        body=body,
    )
    if message.refusal or finish_reason == "content_filter":
        reason = message.refusal or "the content filter cut the reply off"
        return Flaw(FlawKind.REFUSED, one_line(reason), text or message.refusal, reply)
    if finish_reason == "error":
        return Flaw(FlawKind.BROKEN_OFF, "the server failed while it generated", text or None)
    if text or message.tool_calls:
        return reply
    if finish_reason == "length":
        return Flaw(FlawKind.CUT_OFF, "the token limit came before any content", None, reply)
    return Flaw(FlawKind.EMPTY, "the reply has no content", None, reply)


def _counted(usage: _Usage | None) -> Usage:
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details else None
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached)


def _decode_odd(body: bytes) -> Reply | Flaw:
    """Reads with patience what the typed decoder turned down: odd types, or an error object."""
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return _unreadable(body)
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict) and (first.get("error") or first.get("object") == "error"):
        return Flaw(FlawKind.ERROR, read_error(body).message)
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return _unreadable(body)
    return _reply(_patiently(value, choice, message), body)


def _unreadable(body: bytes) -> Flaw:
    if not body.strip():
        return Flaw(FlawKind.UNREADABLE, "the body of the response is empty")
    said = read_error(body).message
    found = f": {said}" if said else ""
    return Flaw(FlawKind.UNREADABLE, one_line(f"the response is not a chat completion{found}"))


def _patiently(
    value: dict[str, Any], choice: dict[str, Any], message: dict[str, Any]
) -> _Completion:
    return _Completion(
        choices=[
            _Choice(
                message=_Message(
                    content=_text(message.get("content")),
                    refusal=_text(message.get("refusal")),
                    tool_calls=msgspec.Raw(b"[]") if message.get("tool_calls") else None,
                ),
                finish_reason=_text(choice.get("finish_reason")),
            )
        ],
        model=_text(value.get("model")),
        usage=_patient_usage(value.get("usage")),
    )


def _patient_usage(usage: Any) -> _Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    return _Usage(
        prompt_tokens=_tokens(usage.get("prompt_tokens")),
        completion_tokens=_tokens(usage.get("completion_tokens")),
        prompt_tokens_details=_PromptDetails(_tokens(details.get("cached_tokens")))
        if isinstance(details, dict)
        else None,
    )


def _text(value: Any) -> str | None:
    """A string; or the text parts of a list of parts, joined."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        value = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(value, str):
        return None
    # A lone surrogate would break whoever writes the text as UTF-8.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _tokens(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else None
