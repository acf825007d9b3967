from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

import pytest
from pydantic import BaseModel

from gptflow.errors import UsageError
from gptflow.wrapper.parameters import CHAT, COMPLETIONS, checked, json_value, merge_extra


class Color(StrEnum):
    RED = "red"


class Number(Enum):
    ONE = 1


class Loud(str):
    __slots__ = ()


class Answer(BaseModel):
    label: str


def test_the_names_are_those_of_the_openai_package() -> None:
    from openai.types import completion_create_params as completions
    from openai.types.chat import completion_create_params as chat

    own = {"model", "messages", "prompt", "stream", "stream_options"}
    assert set(chat.CompletionCreateParamsNonStreaming.__annotations__) - own == CHAT
    assert set(completions.CompletionCreateParamsNonStreaming.__annotations__) - own == COMPLETIONS


def test_what_is_none_is_not_given() -> None:
    given = {"temperature": 0, "stop": None, "max_tokens": None, "stream": False}
    assert checked(given, CHAT) == {"temperature": 0}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temprature", "did you mean 'temperature'?"),
        ("max_new_tokens", "did you mean 'max_tokens'?"),
        ("request_timeout", "did you mean 'timeout'?"),
        ("top_k", "extra_body={...} passes anything else through"),
        ("stream", "replies are read whole"),
        ("api_key", "config.json alone"),
        ("extra_headers", "config.json alone"),
        ("best_of", "this model's API has only"),
        ("qqq", "extra_body={...}"),
    ],
)
def test_what_the_api_does_not_have_is_told_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked({name: True}, CHAT)
    assert f"no parameter {name!r}" in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": (1, 2.5, None, True)}, {"a": [1, 2.5, None, True]}),
        ([Color.RED, Number.ONE, Loud("x")], ["red", 1, "x"]),
        ({Color.RED: 1}, {"red": 1}),
    ],
)
def test_odd_values_that_mean_json_become_json(value: object, plain: object) -> None:
    converted = json_value(value, "x")
    assert converted == plain
    assert json.loads(json.dumps(converted)) == plain


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("temperature", float("nan"), "temperature is nan, which JSON does not have"),
        ("temperature", Decimal("0.5"), "temperature is a Decimal"),
        ("stop", {"a"}, "stop is a set"),
        ("metadata", {1: "a"}, "a name in metadata is a int"),
        ("tools", [{"type": b"x"}], r"tools\[0\]\['type'\] is a bytes"),
        ("response_format", Answer, "response_format is the class Answer"),
    ],
)
def test_what_json_does_not_have_is_told_with_its_place(name: str, value: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        checked({name: value}, CHAT)


def test_a_class_as_response_format_gets_the_form_to_write() -> None:
    with pytest.raises(UsageError, match="model_json_schema"):
        checked({"response_format": Answer}, CHAT)


def test_extra_body_goes_along_and_wins() -> None:
    merged = merge_extra({"temperature": 0}, {"top_k": 5, "temperature": 1, "stop": None})
    assert merged == {"temperature": 1, "top_k": 5, "stop": None}


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("x", "extra_body is a str"),
        ({"model": "m"}, "may not hold 'model'"),
        ({"stream": True}, "may not ask for a stream"),
        ({"a": {1}}, r"extra_body\['a'\] is a set"),
    ],
)
def test_extra_body_has_its_limits(extra: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        merge_extra({}, extra)
