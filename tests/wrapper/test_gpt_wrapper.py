"""The calls of GPTWrapper, as its users write them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from gptflow import ConfigError, GptflowError, GPTWrapper, RunStopped, UsageError
from gptflow.records import Reply, Usage
from gptflow.wrapper.question import question

from .conftest import CHAT, HI, KEY, Api

Serve = Callable[..., Api]


def test_the_example_of_the_original(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(api.folder)
    wrapper = GPTWrapper(config_path="./config.json", base_wait_time=30, lark_hook=None)

    reply = wrapper.completions_with_backoff(
        engine="gpt-3.5-turbo",
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello!"},
        ],
        temperature=0.7,
        max_tokens=100,
        top_p=0.95,
        frequency_penalty=0,
        presence_penalty=0,
    )

    assert reply == "Hello!"
    assert api.bodies == [
        {
            "model": "gpt-3.5-turbo",
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "Hello!"},
            ],
            "temperature": 0.7,
            "max_tokens": 100,
            "top_p": 0.95,
            "frequency_penalty": 0,
            "presence_penalty": 0,
        }
    ]


def test_only_what_is_given_is_sent(wrapper: GPTWrapper, api: Api) -> None:
    wrapper.completions_with_backoff("gpt-4o", HI, None, 5, seed=1, user=None)

    assert api.bodies == [{"model": "gpt-4o", "messages": HI, "max_tokens": 5, "seed": 1}]


def test_model_is_another_word_for_engine(wrapper: GPTWrapper, api: Api) -> None:
    wrapper.completions_with_backoff(model="gpt-4o", messages=HI)
    wrapper.completions_with_backoff(engine="gpt-4o", model="gpt-4o", messages=HI)

    assert [body["model"] for body in api.bodies] == ["gpt-4o", "gpt-4o"]
    with pytest.raises(UsageError, match="engine is 'a', but model is 'b'"):
        wrapper.completions_with_backoff(engine="a", model="b", messages=HI)


def test_several_replies_are_a_list(wrapper: GPTWrapper) -> None:
    assert wrapper.completions_with_backoff(**CHAT, n=3) == ["hi", "hi", "hi"]
    assert wrapper.completions_with_backoff(**CHAT, n=1) == "hi"


def test_a_string_is_one_message_of_the_user(wrapper: GPTWrapper, api: Api) -> None:
    assert wrapper.completions_with_backoff(engine="gpt-4o", messages="hi") == "hi"
    assert api.bodies[0]["messages"] == HI


def test_a_completion_model_takes_a_prompt(wrapper: GPTWrapper, api: Api) -> None:
    assert wrapper.completions_with_backoff("davinci-002", "Once", max_tokens=5) == "Once"
    assert api.bodies == [{"model": "davinci-002", "prompt": "Once", "max_tokens": 5}]


def test_a_completion_model_takes_prompts_and_answers_in_their_order(wrapper: GPTWrapper) -> None:
    prompts = ["one", "two", "three"]

    assert wrapper.completions_with_backoff("gpt-3.5-turbo-instruct", prompts) == prompts
    assert wrapper.completions_with_backoff("babbage-002", prompt=["one"]) == ["one"]
    assert wrapper.completions_with_backoff("my-base", prompts, api="completions") == prompts


def test_the_whole_reply(wrapper: GPTWrapper) -> None:
    reply = wrapper.complete("gpt-4o", HI, temperature=0)

    assert (reply.text, reply.finish_reason, reply.model) == ("hi", "stop", "gpt-4o")
    assert (reply.key_name, reply.attempts) == ("key 1", 1)
    assert reply.usage.prompt_tokens == 1
    assert reply.latency_s > 0
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "hi"


def test_the_same_in_an_event_loop(wrapper: GPTWrapper, api: Api) -> None:
    async def main() -> None:
        texts = await asyncio.gather(
            wrapper.acompletions_with_backoff(**CHAT),
            wrapper.acompletions_with_backoff(**CHAT, n=2),
            wrapper.acompletions_with_backoff("davinci-002", ["a", "b"], max_tokens=5),
        )
        assert list(texts) == ["hi", ["hi", "hi"], ["a", "b"]]
        assert (await wrapper.acomplete("gpt-4o", HI, temperature=0)).key_name == "key 1"

    asyncio.run(main())
    assert api.bodies[-1]["temperature"] == 0


def test_a_refused_call_raises_the_class_of_openai(serve: Serve) -> None:
    api = serve(failures={"context_length_exceeded": "100%"})

    with api.wrapper() as wrapper, pytest.raises(openai.BadRequestError) as caught:
        wrapper.completions_with_backoff(**CHAT)

    assert caught.value.code == "context_length_exceeded"


def test_a_caller_may_catch_what_ends_a_key(serve: Serve) -> None:
    api = serve(failures={"insufficient_quota": "100%"})

    with api.wrapper(key_wait_s=0) as wrapper:
        with pytest.raises(openai.RateLimitError):
            wrapper.completions_with_backoff(**CHAT)
        with pytest.raises(openai.RateLimitError):
            asyncio.run(wrapper.acompletions_with_backoff(**CHAT))


def test_a_passing_failure_is_tried_again(serve: Serve) -> None:
    api = serve(failures=[{"name": "server_500", "attempts": 1}])

    with api.wrapper() as wrapper:
        assert wrapper.complete(**CHAT).attempts == 2


def test_attempts_are_bounded(serve: Serve) -> None:
    api = serve(failures={"server_500": "100%"})

    with api.wrapper(attempts=1) as wrapper, pytest.raises(openai.InternalServerError):
        wrapper.completions_with_backoff(**CHAT)
    assert api.server.requests == 1


def test_a_call_may_have_its_own_deadline(serve: Serve) -> None:
    api = serve(failures=[{"name": "hang", "match": "hang"}], latency="300ms")

    with api.wrapper(attempts=1, timeout_s=0.1) as wrapper:
        with pytest.raises(openai.APITimeoutError):
            wrapper.completions_with_backoff(**CHAT)
        assert wrapper.completions_with_backoff(**CHAT, timeout=20) == "hi"
        with pytest.raises(openai.APITimeoutError):
            wrapper.completions_with_backoff("m", "hang", timeout=0.2)


def test_answers_that_do_not_fit_the_prompts_are_no_answers(serve: Serve) -> None:
    api = serve()
    body = b'{"choices": [{"text": "one"}, {"text": "two"}, {"text": "three"}]}'
    reply = Reply("one", "stop", Usage(), "m", body)

    with api.wrapper() as wrapper, pytest.raises(GptflowError, match="3 texts came for 2 prompts"):
        wrapper._shared.texts(question("davinci-002", ["a", "b"], {}), reply)


def test_keys_are_used_one_after_the_other(serve: Serve) -> None:
    api = serve(keys={"sk-one-1": {"failure": "insufficient_quota"}, "sk-two-2": {}})
    api.write_config("sk-one-1", "sk-two-2")

    with api.wrapper() as wrapper:
        assert [wrapper.complete(**CHAT).key_name for _ in range(3)] == ["key 2"] * 3


def test_a_wrapper_may_begin_with_another_key(api: Api) -> None:
    api.write_config("sk-one-1", "sk-two-2", "sk-three-3")

    with api.wrapper(start_index=4) as wrapper:
        assert wrapper.complete(**CHAT).key_name == "key 2"
        third = wrapper.starting_at(2)
        assert [third.complete(**CHAT).key_name for _ in range(2)] == ["key 3", "key 3"]
        assert wrapper.complete(**CHAT).key_name == "key 2"


@pytest.mark.parametrize(
    "option",
    [
        {"base_wait_time": 0},
        {"base_wait_time": "30"},
        {"timeout_s": 0},
        {"timeout_s": None},
        {"timeout_s": float("nan")},
        {"attempts": 0},
        {"attempts": 2.5},
        {"key_wait_s": -1},
        {"key_wait_s": "0"},
        {"strategy": "random"},
        {"lark_hook": 5},
        {"start_index": "1"},
    ],
)
def test_an_argument_that_does_not_fit_is_told(api: Api, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))} cannot be"):
        api.wrapper(**option)


def test_a_path_that_is_none_is_told() -> None:
    path: Any = None
    with pytest.raises(UsageError, match="config_path cannot be None"):
        GPTWrapper(path)


def test_what_is_odd_about_the_file_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.config.chmod(0o644)
    api.wrapper()
    assert "config.json" in caplog.text


def test_no_file_and_no_key_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no OPENAI_API_KEY"):
        GPTWrapper()
    with pytest.raises(ConfigError, match=r"mine\.json: No such file"):
        GPTWrapper("mine.json")


def test_the_key_of_the_environment_stands_in_for_the_default_file(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", api.server.base_url)

    with GPTWrapper() as wrapper:
        assert wrapper.completions_with_backoff(**CHAT) == "hi"


def test_a_closed_wrapper_says_so(api: Api) -> None:
    wrapper = api.wrapper()
    wrapper.completions_with_backoff(**CHAT)
    wrapper.close()
    wrapper.close()

    with pytest.raises(UsageError, match="the wrapper is closed"):
        wrapper.completions_with_backoff(**CHAT)
    with pytest.raises(UsageError, match="the wrapper is closed"):
        asyncio.run(wrapper.acompletions_with_backoff(**CHAT))


def test_a_wrapper_that_was_never_used_closes(api: Api) -> None:
    wrapper = api.wrapper()
    wrapper.close()

    with pytest.raises(UsageError, match="the wrapper is closed"):
        wrapper.completions_with_backoff(**CHAT)


def test_a_stopped_wrapper_raises_the_reason(wrapper: GPTWrapper) -> None:
    wrapper.stop(RunStopped("enough"))

    for _ in range(2):
        with pytest.raises(RunStopped, match="enough"):
            wrapper.completions_with_backoff(**CHAT)


def test_half_of_a_surrogate_pair_is_told(wrapper: GPTWrapper) -> None:
    with pytest.raises(UsageError, match="half of a surrogate pair"):
        wrapper.completions_with_backoff("gpt-4o", "a\ud800b")
    assert wrapper.completions_with_backoff(**CHAT) == "hi"
