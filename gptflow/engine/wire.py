"""The wire form of completions: a call to bytes, and a response body to a reply.

https://platform.openai.com/docs/api-reference/chat/object and, for the models that complete texts,
https://platform.openai.com/docs/api-reference/completions/object. Which of the two a body is, its
choices tell: one has a message, the other a text.
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
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    index: int | None = None

    @property
    def content(self) -> str:
        """What the model wrote; empty where it wrote nothing."""
        return (self.message.content if self.message else self.text) or ""


class _Completion(msgspec.Struct):
    """The members that we read; the rest of the body is not even decoded."""

    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


_CHAT = "chat/completions"
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Completion)


def encode(call: Call) -> bytes:
    """The request body of a call: the same bytes for the same call.

    Raises:
        UnicodeEncodeError: a message holds half of a surrogate pair, which UTF-8 cannot carry.
    """
    if call.endpoint == _CHAT:
        return _encoder.encode({"model": call.model, "messages": call.messages, **call.params})
    return _encoder.encode({"model": call.model, **call.params})


def decode(body: bytes) -> Reply | Flaw:
    """The reply in the body of a response of status 200, or why there is none.

    Of several choices (n > 1, or several prompts) the reply has the first one's text and reason;
    `texts` gives all. A choice without content is borne as long as another one has some.
    """
    try:
        completion = _decoder.decode(body)
    except (ValueError, RecursionError):
        return _decode_odd(body)
    if completion.error is not None or not _is_readable(completion):
        return _decode_odd(body)
    return _reply(completion, body)


def texts(body: bytes) -> list[str]:
    """The texts of all choices of a reply, by their index: those of the first prompt come first.

    Args:
        body: what `decode` has made a reply of.
    """
    completion: _Completion | None
    try:
        completion = _decoder.decode(body)
    except (ValueError, RecursionError):
        completion = _patiently(json.loads(body.decode("utf-8-sig")))
    return [choice.content for choice in _in_order(completion.choices)] if completion else []


def _is_readable(completion: _Completion) -> bool:
    choices = completion.choices
    for choice in choices:
        if choice.message is None and choice.text is None:
            return False
    return bool(choices)


def _in_order(choices: list[_Choice]) -> list[_Choice]:
    places = {choice.index: choice for choice in choices}
    if None in places or len(places) < len(choices):  # a server that does not number them
        return choices
    return [choice for _, choice in sorted(places.items(), key=_place)]


def _place(item: tuple[int | None, _Choice]) -> int:
    return item[0] or 0


def _reply(completion: _Completion, body: bytes) -> Reply | Flaw:
    choices = completion.choices
    if len(choices) > 1:
        choices = _in_order(choices)
    first = choices[0]
    # A missing finish_reason is a cut stream by the book, but some local servers never send one.
    reply = Reply(
        text=first.content,
        finish_reason=first.finish_reason,
        usage=_counted(completion.usage),
        model=completion.model or "",
        body=body,
    )
    flaw = _flaw(first, reply)
    if len(choices) == 1:
        return flaw or reply
    flaws = [flaw, *(_flaw(choice, reply) for choice in choices[1:])]
    broken_off = next((flaw for flaw in flaws if flaw and flaw.kind is FlawKind.BROKEN_OFF), None)
    return broken_off or (reply if None in flaws else flaw) or reply


def _flaw(choice: _Choice, reply: Reply) -> Flaw | None:
    """Why a choice is no answer."""
    message, finish_reason = choice.message, choice.finish_reason
    text = choice.content
    refusal = message.refusal if message else None
    if refusal or finish_reason == "content_filter":
        reason = refusal or "the content filter cut the reply off"
        return Flaw(FlawKind.REFUSED, one_line(reason), text or refusal, reply)
    if finish_reason == "error":
        return Flaw(FlawKind.BROKEN_OFF, "the server failed while it generated", text or None)
    if text or (message and message.tool_calls):
        return None
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
    completion = _patiently(value) if isinstance(value, dict) else None
    return _reply(completion, body) if completion else _unreadable(body)


def _unreadable(body: bytes) -> Flaw:
    if not body.strip():
        return Flaw(FlawKind.UNREADABLE, "the body of the response is empty")
    said = read_error(body).message
    found = f": {said}" if said else ""
    return Flaw(FlawKind.UNREADABLE, one_line(f"the response is not a chat completion{found}"))


def _patiently(value: dict[str, Any]) -> _Completion | None:
    choices = value.get("choices")
    if not isinstance(choices, list):
        return None
    completion = _Completion(
        choices=[_patient_choice(choice) for choice in choices],
        model=_text(value.get("model")),
        usage=_patient_usage(value.get("usage")),
    )
    return completion if _is_readable(completion) else None


def _patient_choice(choice: Any) -> _Choice:
    if not isinstance(choice, dict):
        return _Choice()
    message, index = choice.get("message"), choice.get("index")
    return _Choice(
        message=_Message(
            content=_text(message.get("content")),
            refusal=_text(message.get("refusal")),
            tool_calls=msgspec.Raw(b"[]") if message.get("tool_calls") else None,
        )
        if isinstance(message, dict)
        else None,
        text=_text(choice.get("text")),
        finish_reason=_text(choice.get("finish_reason")),
        index=index if isinstance(index, int) else None,
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
