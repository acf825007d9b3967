"""What a caller of GPTWrapper asks, as a call of the engine."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from gptflow.errors import UsageError
from gptflow.records import Call
from gptflow.wrapper.parameters import CHAT, COMPLETIONS, checked, json_value, merge_extra
from gptflow.wrapper.settings import LONGEST_TIMEOUT_S

_COMPLETES = re.compile(
    r"(ft:)?(gpt-[\d.]+(-turbo)?-instruct|(text-|code-|if-)?(ada|babbage|curie|davinci|cushman))"
    r"(?![a-z])"
)
"""OpenAI's models that complete a text. `-instruct` alone does not tell: most servers have chat
models of that name, such as Qwen2.5-7B-Instruct.

https://platform.openai.com/docs/deprecations
"""


class Question(NamedTuple):
    """A call, and the form in which its caller wants the answer."""

    call: Call
    is_list: bool
    """Whether the answer is a list of texts, though it may have but one."""


def question(model: object, messages: object, given: dict[str, Any]) -> Question:
    """The call that a caller describes.

    Args:
        model: `engine`, or None if the caller named the model otherwise.
        messages: as given.
        given: all else, by name. What is None was not given.

    Raises:
        UsageError: it cannot be sent like this.
    """
    rest = {name: value for name, value in given.items() if value is not None}
    extra = rest.pop("extra_body", {})
    prompt, api = rest.pop("prompt", None), rest.pop("api", None)
    timeout_s = _timeout_s(rest.pop("timeout", None))
    name = _model(model, rest.pop("model", None))
    if messages is not None and prompt is not None:
        raise UsageError("both messages and prompt are given", hint="leave one of them out")
    content = messages if prompt is None else prompt
    if _is_completion(name, api, has_prompt=prompt is not None):
        texts = _prompts(content, name)
        params = merge_extra(checked(rest, COMPLETIONS), extra)
        call = Call(b"", "", name, [], {"prompt": texts, **params}, "completions", timeout_s)
        return Question(call, isinstance(texts, list) or _wants_several(params))
    turns = _messages(content, name)
    params = merge_extra(checked(rest, CHAT), extra)
    call = Call(b"", "", name, turns, params, timeout_s=timeout_s)
    return Question(call, _wants_several(params))


def _model(engine: object, model: object) -> str:
    if engine is not None and model is not None and engine != model:
        raise UsageError(
            f"engine is {engine!r}, but model is {model!r}",
            hint="they are two words for one thing: leave one of them out",
        )
    name = model if engine is None else engine
    if name is None:
        raise UsageError("no model is given", hint="engine='gpt-4o-mini' names one")
    if not isinstance(name, str) or not name:
        raise UsageError(f"the model's name is {name!r}, not a text")
    return name


def _timeout_s(timeout: object) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, int | float) and 0 < timeout <= LONGEST_TIMEOUT_S:
        return float(timeout)
    raise UsageError(
        f"timeout is {timeout!r}, not a number of seconds above 0",
        hint="it is the deadline for one attempt",
    )


def _is_completion(model: str, api: object, *, has_prompt: bool) -> bool:
    match api:
        case None:
            return has_prompt or _COMPLETES.match(model) is not None
        case "completions":
            return True
        case "chat" if has_prompt:
            raise UsageError("the chat API takes no prompt", hint="give it as messages=")
        case "chat":
            return False
        case _:
            raise UsageError(f"api is {api!r}; there are 'chat' and 'completions'")


def _wants_several(params: dict[str, Any]) -> bool:
    n = params.get("n", 1)
    return isinstance(n, int) and n > 1


def _prompts(content: object, model: str) -> str | list[str]:
    """The prompt or prompts of a completion model."""
    if isinstance(content, str):
        return str(content)
    if not isinstance(content, list | tuple) or not all(isinstance(p, str) for p in content):
        raise UsageError(
            f"{model} completes texts: it takes a string or a list of strings",
            hint="api='chat' sends messages to it all the same",
        )
    if not content:
        raise UsageError("the list of prompts is empty")
    return [str(prompt) for prompt in content]


def _messages(content: object, model: str) -> list[dict[str, Any]]:
    """The messages of a chat model. A string is one message of the user."""
    if isinstance(content, str):
        return [{"role": "user", "content": str(content)}]
    if not isinstance(content, list | tuple) or not all(isinstance(m, dict) for m in content):
        is_texts = isinstance(content, list | tuple) and content
        raise UsageError(
            "messages is neither a string nor a list of dicts"
            if content is not None
            else "no messages are given",
            hint=f"one call takes one conversation; if {model} completes texts, say "
            "api='completions'"
            if is_texts
            else "messages=[{'role': 'user', 'content': '...'}]",
        )
    if not content:
        raise UsageError("the list of messages is empty")
    messages: list[dict[str, Any]] = json_value(list(content), "messages")
    return messages
