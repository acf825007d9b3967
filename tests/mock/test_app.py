from __future__ import annotations

from typing import Any

import pytest

from tests.mock.conftest import Serve, Serving


@pytest.fixture(scope="module")
def plain(serve: Serve) -> Serving:
    return serve()


def test_a_chat_completion_has_the_form_of_openai(plain: Serving) -> None:
    got = plain.ask("How are you today?", max_tokens=50)
    digest = plain.noted()[-1].request
    assert digest is not None
    assert got.status == 200
    assert got.json == {
        "id": f"chatcmpl-{digest[:29]}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "How are you today?", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 5,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "system_fingerprint": "fp_simulated",
    }


def test_answers_carry_the_headers_of_openai(plain: Serving) -> None:
    first, second = (plain.ask("Hello").headers for _ in range(2))
    assert first["content-type"] == "application/json"
    assert first["x-request-id"] != second["x-request-id"]
    assert int(first["openai-processing-ms"]) == 0
    assert "openai-version" in first
    assert not [name for name in first if name.startswith("x-ratelimit")]


def test_the_older_completions_endpoint_has_texts(plain: Serving) -> None:
    got = plain.send("POST", "/completions", {"model": "m", "prompt": "Once upon"})
    assert got.json["object"] == "text_completion"
    assert got.json["choices"][0]["text"] == "Once upon"


def test_several_prompts_get_their_replies_in_order(serve: Serve) -> None:
    served = serve(reply={"one_of": list("abcdefgh")})
    alone = [
        served.send("POST", "/completions", {"model": "m", "prompt": p}).json["choices"][0]["text"]
        for p in ("one", "two", "three")
    ]
    got = served.send("POST", "/completions", {"model": "m", "prompt": ["one", "two", "three"]})
    assert [choice["text"] for choice in got.json["choices"]] == alone
    assert [choice["index"] for choice in got.json["choices"]] == [0, 1, 2]


def test_several_prompts_with_n_are_grouped_by_prompt(serve: Serve) -> None:
    served = serve(python_reply=lambda body: body["prompt"])
    got = served.send("POST", "/completions", {"model": "m", "prompt": ["x", "y"], "n": 2})
    assert [choice["text"] for choice in got.json["choices"]] == ["x", "x", "y", "y"]


def test_a_key_without_access_cannot_list_the_models(serve: Serve) -> None:
    served = serve(
        keys={
            "sk-bad": {"failure": "invalid_api_key"},
            "sk-poor": {"failure": "insufficient_quota"},
            "sk-one": {"models": ["small"]},
        },
        models=["small", "large"],
        unknown_keys="refuse",
    )
    statuses = {
        key: served.send("GET", "/models", key=key).status
        for key in ("sk-bad", "sk-poor", "sk-one", "sk-other")
    }
    assert statuses == {"sk-bad": 401, "sk-poor": 200, "sk-one": 200, "sk-other": 401}
    own = served.send("GET", "/models").json["data"]
    assert [model["id"] for model in own] == ["small"]


def test_models_are_listed(serve: Serve) -> None:
    got = serve(models=["small", "large"]).send("GET", "/models")
    assert [model["id"] for model in got.json["data"]] == ["small", "large"]


def test_the_base_path_may_lack_its_v1(plain: Serving) -> None:
    assert plain.send("GET", "/../models").json["object"] == "list"


def test_content_may_be_a_list_of_parts(plain: Serving) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages = [{"role": "user", "content": parts}]
    assert plain.ask(messages=messages).text == "one two"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, None),
        (b"[]", None, None),
        ({"messages": [{"role": "user", "content": "x"}]}, None, None),
        ({"model": 3, "messages": []}, "model", "invalid_type"),
        ({"model": "m"}, "messages", "missing_required_parameter"),
        ({"model": "m", "messages": "x"}, "messages", "invalid_type"),
        ({"model": "m", "messages": []}, "messages", "empty_array"),
        ({"model": "m", "messages": ["x"]}, "messages[0]", "invalid_type"),
        ({"model": "m", "messages": [{}]}, "messages[0].role", "missing_required_parameter"),
    ],
)
def test_a_bad_body_is_refused(plain: Serving, body: Any, param: str, code: str) -> None:
    got = plain.send("POST", "/chat/completions", body)
    assert got.status == 400
    assert got.json["error"]["type"] == "invalid_request_error"
    assert (got.json["error"]["param"], got.json["error"]["code"]) == (param, code)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("stream", True, "unsupported_value"),
        ("n", 0, "integer_below_min_value"),
        ("n", "2", "invalid_type"),
        ("max_tokens", 1.5, "invalid_type"),
        ("max_completion_tokens", True, "invalid_type"),
    ],
)
def test_a_bad_parameter_is_refused(plain: Serving, name: str, value: Any, code: str) -> None:
    got = plain.ask(**{name: value})
    assert (got.status, got.json["error"]["param"]) == (400, name)
    assert got.json["error"]["code"] == code


def test_other_paths_and_methods_are_refused(plain: Serving) -> None:
    assert plain.send("POST", "/embeddings", {}).status == 404
    assert plain.send("GET", "/chat/completions").status == 405
    assert plain.send("POST", "/v1/models", {}).status == 404


def test_a_request_without_a_key_is_refused(plain: Serving) -> None:
    got = plain.ask(key="")
    assert got.status == 401
    assert "provide an API key" in got.json["error"]["message"]


def test_unknown_keys_and_models_can_be_refused(serve: Serve) -> None:
    strict = serve(keys={"sk-one": {"models": ["a"]}}, unknown_keys="refuse", models=["a", "b"])
    assert strict.ask(model="a").status == 200
    assert strict.ask(model="b").json["error"]["code"] == "model_not_found"
    assert strict.ask(model="b").status == 403
    assert strict.ask(model="c").status == 404
    other = strict.ask(model="a", key="sk-another-key-of-some-length")
    assert other.json["error"]["code"] == "invalid_api_key"
    assert "sk-********ngth" in other.json["error"]["message"]


def test_a_key_can_be_dead(serve: Serve) -> None:
    served = serve(keys={"sk-dead": {"failure": "account_deactivated"}, "sk-one": None})
    assert served.ask(key="sk-dead").json["error"]["code"] == "account_deactivated"
    assert served.ask(key="sk-one").status == 200


def test_replies_take_as_long_as_the_scenario_says_and_refusals_none(serve: Serve) -> None:
    slow = serve(latency="300ms", failures=[{"name": "server_500", "match": "^broken$"}])
    assert slow.ask("fine").headers["openai-processing-ms"] == "300"
    slow.ask("broken")
    slow.ask(n=0)
    latencies_s = [entry.latency_s for entry in slow.noted()]
    assert min(latencies_s[:2]) >= 0.299  # a timer may be a tick early
    assert latencies_s[2] < min(latencies_s[:2])
