from __future__ import annotations

import json
from typing import Any

import pytest

from tests.mock.conftest import Serve, Serving


@pytest.fixture(scope="module")
def scripted(serve: Serve) -> Serving:
    return serve(
        reply=[
            {"match": "(?i)refund", "text": "negative"},
            {"match": r"^add (\d+) (\d+)$", "template": "{{ match[1]|int + match[2]|int }}"},
            {"match": "^describe", "template": "{{ model }}/{{ turn }}/{{ system }}/{{ user }}"},
            {"match": "^pick", "one_of": ["a", "b", "c"]},
            {"match": "^divide", "template": "{{ 1 / (user|length - 6) }}"},
            "echo",
        ]
    )


def test_the_first_rule_that_matches_replies(scripted: Serving) -> None:
    assert scripted.ask("I want a REFUND").text == "negative"
    assert scripted.ask("add 2 40").text == "42"
    assert scripted.ask("anything").text == "anything"


def test_without_a_match_the_last_user_message_comes_back(serve: Serve) -> None:
    assert serve(reply={"match": "never", "text": "x"}).ask("hello").text == "hello"


def test_a_template_sees_the_conversation(scripted: Serving) -> None:
    turns = [("system", "Be brief."), ("user", "hi"), ("assistant", "hey"), ("user", "describe")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert scripted.ask(messages=messages).text == "gpt-4o-mini/2/Be brief./describe"


def test_a_template_that_fails_on_a_request_says_so(scripted: Serving) -> None:
    got = scripted.ask("divide")
    assert got.status == 400
    assert got.json["error"]["code"] == "template_failed"
    assert "division by zero" in got.json["error"]["message"]


def test_one_of_is_chosen_by_the_request(scripted: Serving) -> None:
    asked = [f"pick {number}" for number in range(30)]
    chosen = [scripted.ask(user).text for user in asked]
    assert set(chosen) == {"a", "b", "c"}
    assert [scripted.ask(user).text for user in reversed(asked)] == chosen[::-1]


def test_equal_requests_get_equal_bytes(scripted: Serving) -> None:
    body = b'{"messages": [{"content": "pick", "role": "user"}], "model": "gpt-4o-mini"}'
    got = scripted.send("POST", "/chat/completions", body)
    assert got.body == scripted.ask("pick").body
    assert got.body != scripted.ask("pick", temperature=1).body


def test_a_reply_is_cut_to_max_tokens(scripted: Serving) -> None:
    got = scripted.ask("0123456789" * 3, max_tokens=5)
    assert got.text == "01234567890123456789"
    assert got.json["choices"][0]["finish_reason"] == "length"
    assert got.json["usage"]["completion_tokens"] == 5
    assert (
        scripted.ask("0123", max_completion_tokens=1).json["choices"][0]["finish_reason"] == "stop"
    )


def test_n_choices_may_differ(scripted: Serving) -> None:
    got = scripted.ask("pick", n=20)
    said = [choice["message"]["content"] for choice in got.json["choices"]]
    assert len(said) == 20
    assert set(said) == {"a", "b", "c"}
    assert got.json["usage"]["completion_tokens"] == 20


def test_an_echo_is_json_where_json_is_asked_for(serve: Serve) -> None:
    served = serve()
    schema = {"type": "object", "properties": {"label": {"enum": ["x", "y"]}}}
    wanted: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}}
    assert json.loads(served.ask("hi", response_format=wanted).text) == {"label": "x"}
    assert json.loads(served.ask("hi", response_format={"type": "json_object"}).text) == {
        "echo": "hi"
    }
    assert served.ask("hi", response_format={"type": "text"}).text == "hi"


def test_python_can_reply(serve: Serve) -> None:
    served = serve(python_reply=lambda body: body["model"].upper())
    assert served.ask("hi", model="small").text == "SMALL"
