"""What the simulated model says: by the rules of the scenario, or to fit a JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gptflow.mock.draw import draw_number
from gptflow.mock.instance import fitting_value
from gptflow.mock.request import (
    CHARACTERS_PER_TOKEN,
    BadRequestError,
    Request,
    content_text,
    token_count,
)
from gptflow.mock.scenario import TEMPLATE_NAMES, ReplyRule

FIXED_TIME = 1_700_000_000
"""When every answer was `created`: the clock would make equal runs differ."""

ReplyText = Callable[[dict[str, Any]], str]
"""The reply to a request body."""


class Replier:
    """Answers requests by the rules of a scenario."""

    def __init__(self, rules: Sequence[ReplyRule], seed: int) -> None:
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        self._rules = [
            (rule, environment.from_string(rule.template) if rule.template is not None else None)
            for rule in rules
        ]
        self._seed = seed

    def text(self, request: Request, choice: int = 0) -> str:
        """What choice number `choice` says."""
        for rule, template in self._rules:
            found = rule.match.search(request.user) if rule.match else None
            if rule.match and found is None:
                continue
            if template is not None:
                return self._rendered(template, request, found)
            if rule.text is not None:
                return rule.text
            if rule.one_of is not None:
                drawn = draw_number(self._seed, request.digest, "reply", choice)
                return rule.one_of[drawn % len(rule.one_of)]
            break
        return self._echo(request)

    def _rendered(self, template: Template, request: Request, found: re.Match[str] | None) -> str:
        systems = [m for m in request.messages if m["role"] in {"system", "developer"}]
        names = {
            "user": request.user,
            "system": content_text(systems[-1].get("content")) if systems else "",
            "messages": request.messages,
            "model": request.model,
            "turn": sum(message["role"] == "user" for message in request.messages),
            "match": [found[0], *found.groups()] if found else [],
            "hash": draw_number(self._seed, request.digest, "hash"),
        }
        assert names.keys() == TEMPLATE_NAMES
        try:
            return template.render(names)
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise BadRequestError(
                f"The scenario's template cannot be rendered for this request: {error}",
                code="template_failed",
            ) from None

    def _echo(self, request: Request) -> str:
        """The last user message, in the form that the request's response_format wants."""
        match request.body.get("response_format"):
            case {"type": "json_object"}:
                value: Any = {"echo": request.user}
            case {"type": "json_schema", "json_schema": {"schema": {**schema}}}:
                value = fitting_value(schema, request.user)
            case _:
                return request.user
        return msgspec.json.encode(value).decode()


def completion_of(request: Request, texts: Sequence[str]) -> dict[str, Any]:
    """The answer to a request in the wire form: one choice for each text, cut to max_tokens."""
    limit = request.max_tokens * CHARACTERS_PER_TOKEN if request.max_tokens else None
    choices = []
    completion_tokens = 0
    for index, text in enumerate(texts):
        said = text[:limit]
        reason = "stop" if said == text else "length"
        completion_tokens += token_count(len(said))
        choices.append(_choice(request, index, said, reason))
    is_chat = request.endpoint == "chat/completions"
    return {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{request.digest.hex()[:29]}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": FIXED_TIME,
        "model": request.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": request.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": request.prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "system_fingerprint": "fp_simulated",
    }


def _choice(request: Request, index: int, text: str, reason: str) -> dict[str, Any]:
    said: dict[str, Any] = {"text": text}
    if request.endpoint == "chat/completions":
        said = {"message": {"role": "assistant", "content": text, "refusal": None}}
    return {"index": index, **said, "logprobs": None, "finish_reason": reason}
