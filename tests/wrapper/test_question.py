from __future__ import annotations

from typing import Any

import pytest

from gptflow.errors import UsageError
from gptflow.wrapper.question import question

HI = [{"role": "user", "content": "hi"}]


def asked(model: Any = "gpt-4o", messages: Any = None, **given: Any) -> tuple[str, Any, bool]:
    """The endpoint, what is asked there, and whether the answer is a list."""
    call, is_list = question(model, messages, given)
    return call.endpoint, call.params.get("prompt", call.messages), is_list


@pytest.mark.parametrize(
    "model",
    [
        "davinci-002",
        "babbage-002",
        "gpt-3.5-turbo-instruct",
        "gpt-3.5-turbo-instruct-0914",
        "text-davinci-003",
        "code-davinci-002",
        "davinci-instruct-beta",
        "davinci:ft-org-2023",
        "ft:babbage-002:org::id",
        "ada",
    ],
)
def test_completion_models_of_openai_are_known_by_name(model: str) -> None:
    assert asked(model, "Once") == ("completions", "Once", False)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "ft:gpt-3.5-turbo-0125:org::id",
        "Llama-3-8B-Instruct",
        "Qwen/Qwen2.5-7B-Instruct",
        "qwen2.5-7b-instruct",
        "kimi-k2-instruct",
        "adaptive-1",
    ],
)
def test_all_others_are_chat_models(model: str) -> None:
    assert asked(model, "hi") == ("chat/completions", HI, False)


def test_a_prompt_is_for_a_completion_model_whatever_its_name() -> None:
    assert asked("my-base", prompt=["a", "b"]) == ("completions", ["a", "b"], True)
    assert asked("my-base", ("a",), api="completions") == ("completions", ["a"], True)


def test_the_caller_may_say_that_a_model_chats() -> None:
    assert asked("davinci-002", HI, api="chat") == ("chat/completions", HI, False)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": None, "messages": HI}, "no model is given"),
        ({"model": 5, "messages": HI}, "the model's name is 5"),
        ({"messages": None}, "no messages are given"),
        ({"messages": []}, "the list of messages is empty"),
        ({"messages": HI[0]}, "neither a string nor a list of dicts"),
        ({"messages": ["a", "b"]}, "api='completions'"),
        ({"messages": HI, "prompt": "hi"}, "both messages and prompt"),
        ({"prompt": "hi", "api": "chat"}, "the chat API takes no prompt"),
        ({"messages": HI, "timeout": 0}, "timeout is 0"),
        ({"messages": HI, "timeout": "5"}, "timeout is '5'"),
        ({"messages": HI, "api": "batch"}, "api is 'batch'"),
        ({"model": "davinci-002", "messages": HI}, "davinci-002 completes texts"),
        ({"model": "davinci-002", "messages": []}, "the list of prompts is empty"),
        ({"messages": [{"role": "user", "content": {1}}]}, r"messages\[0\]\['content'\] is a set"),
    ],
)
def test_what_cannot_be_asked_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        asked(**given)


def test_a_timeout_is_no_parameter_of_the_api() -> None:
    call, _ = question("gpt-4o", HI, {"timeout": 5})
    assert (call.timeout_s, call.params) == (5.0, {})


def test_the_messages_are_the_caller_s_no_more() -> None:
    call, _ = question("gpt-4o", HI, {})
    assert call.messages == HI
    assert call.messages is not HI
