"""A request to the simulated server: what it says, and whether OpenAI would take it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

CHARACTERS_PER_TOKEN = 4

Endpoint = Literal["chat/completions", "completions"]


class BadRequestError(Exception):
    """What OpenAI answers with status 400."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class Request(msgspec.Struct, frozen=True):
    """A request that OpenAI would take."""

    endpoint: Endpoint
    key: str
    body: dict[str, Any]
    digest: bytes
    """SHA-256 of the body in a canonical form: the same for the same question."""
    model: str
    messages: list[dict[str, Any]]
    user: str
    """The text of the last user message, or the prompt."""
    choices: int
    max_tokens: int | None
    prompt_tokens: int

    @property
    def tokens(self) -> int:
        """What it counts for a limit of tokens, by OpenAI's own rule for requests to come."""
        return max(self.prompt_tokens, self.max_tokens or 0)


def token_count(characters: int) -> int:
    """An estimate, and at least 1."""
    return max(1, -(-characters // CHARACTERS_PER_TOKEN))


def read_request(endpoint: Endpoint, key: str, content: bytes) -> Request:
    """The request in a body. BadRequestError says what is wrong with it, in OpenAI's words."""
    body = json_object(content)
    model = _model(body)
    if body.get("stream"):
        raise BadRequestError(
            "The simulator does not stream: send stream: false, or leave it out.",
            "stream",
            "unsupported_value",
        )
    messages = _messages(body) if endpoint == "chat/completions" else _prompts(body)
    texts = [content_text(message.get("content")) for message in messages]
    users = [t for t, m in zip(texts, messages, strict=True) if m.get("role") == "user"]
    limits = [_count(body, name) for name in ("max_completion_tokens", "max_tokens")]
    return Request(
        endpoint=endpoint,
        key=key,
        body=body,
        digest=_digest(body),
        model=model,
        messages=messages,
        user=users[-1] if users else texts[-1],
        choices=_count(body, "n") or 1,
        max_tokens=limits[0] or limits[1],
        prompt_tokens=token_count(sum(map(len, texts))),
    )


def questions(request: Request) -> list[Request]:
    """The request; where it has several prompts, one request for each."""
    if request.endpoint == "chat/completions" or len(request.messages) == 1:
        return [request]
    return [_question(request, message["content"]) for message in request.messages]


def _question(request: Request, prompt: str) -> Request:
    """One of several prompts, as if it had been asked alone."""
    body = {**request.body, "prompt": prompt}
    return msgspec.structs.replace(
        request,
        body=body,
        digest=_digest(body),
        messages=[{"role": "user", "content": prompt}],
        user=prompt,
    )


def content_text(content: object) -> str:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "".join(text for text in parts if isinstance(text, str))


def _digest(body: dict[str, Any]) -> bytes:
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()


def json_object(content: bytes) -> dict[str, Any]:
    """The object in a body; BadRequestError if there is none."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BadRequestError(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't "
            "using your HTTP library correctly. The OpenAI API expects a JSON payload, but what "
            "was sent was not valid JSON.)"
        )
    return body


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if model is None:
        raise BadRequestError("you must provide a model parameter")
    if not isinstance(model, str):
        raise wrong_type("model", "a string", model)
    return model


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages = required(body, "messages")
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise BadRequestError(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an "
            "empty array instead.",
            "messages",
            "empty_array",
        )
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            raise wrong_type(f"messages[{place}]", "an object", message)
        if "role" not in message:
            raise _missing(f"messages[{place}].role")
    return messages


def _prompts(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The prompts of the older endpoint, each as the one message that it amounts to."""
    prompt = required(body, "prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise BadRequestError(
            "The simulator takes a string or a list of strings, no tokens.",
            "prompt",
            "unsupported_value",
        )
    return [{"role": "user", "content": one} for one in prompts]


def required(body: dict[str, Any], name: str) -> Any:
    """The value of a parameter that has to be there; BadRequestError if it is not."""
    if body.get(name) is None:
        raise _missing(name)
    return body[name]


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer", value)
    if value < 1:
        raise BadRequestError(
            f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got "
            f"{value} instead.",
            name,
            "integer_below_min_value",
        )
    return value


def _missing(param: str) -> BadRequestError:
    return BadRequestError(
        f"Missing required parameter: '{param}'.", param, "missing_required_parameter"
    )


_JSON_TYPES: Sequence[tuple[type, str]] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a decimal"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
)


def wrong_type(param: str, expected: str, found: object) -> BadRequestError:
    """A parameter of another type than `expected`, such as `a string`."""
    name = next((word for kind, word in _JSON_TYPES if isinstance(found, kind)), "null")
    return BadRequestError(
        f"Invalid type for '{param}': expected {expected}, but got {name} instead.",
        param,
        "invalid_type",
    )
