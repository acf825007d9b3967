"""What GPTWrapper does when keys fail, whom it tells, and what it never shows."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import gptflow
from gptflow import ConfigError, GPTWrapper, LarkBot
from gptflow.errors import RunStopped
from tests.lark_server import TOKEN, LarkServer

from .conftest import CHAT, KEY, Api, until

Serve = Callable[..., Api]
PACKAGE = str(Path(gptflow.__file__).parent)
SPENT = {"failure": "insufficient_quota"}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "gptflow")
    return caplog


def test_when_all_keys_are_spent_the_call_waits_for_a_new_one(
    serve: Serve, lark: LarkServer, logged: pytest.LogCaptureFixture
) -> None:
    api = serve(keys={"sk-spent-1": SPENT})
    api.write_config("sk-spent-1")

    with api.wrapper(lark_hook=lark.hook) as wrapper, ThreadPoolExecutor(1) as pool:
        call = pool.submit(wrapper.complete, **CHAT)
        told = lark.wait_for(2)
        assert not call.done()
        api.write_config("sk-spent-1", "sk-fresh-2")
        assert call.result(20).key_name == "key 2"
        told = lark.wait_for(3)

    assert "key 1 is spent: " in told[0]
    assert "no API key is left" in told[1]
    assert "waiting: " in told[1]
    assert "there is a usable key again" in told[2]
    assert all(str(api.config) in text for text in told)
    assert logged.records[0].getMessage() in told[0]


def test_a_wrapper_that_is_stopped_raises_the_reason_though_a_key_was_lost_before(
    serve: Serve,
) -> None:
    api = serve(keys={"sk-spent-1": SPENT}, latency="300ms")
    entry = {"api_key": "sk-slow-2", "base_url": api.server.base_url}
    entries = [{**entry, "api_key": "sk-spent-1"}, {**entry, "concurrency": 1}]
    api.config.write_text(json.dumps({"key_list": entries}))
    reason = RunStopped("the pipeline has ended")

    def ask(_: int) -> object:
        try:
            return wrapper.completions_with_backoff(**CHAT)
        except RunStopped as stopped:
            return stopped.message

    with api.wrapper() as wrapper, ThreadPoolExecutor(2) as pool:
        wrapper.completions_with_backoff(**CHAT)  # by the second key, once the first is lost
        asked = api.server.requests
        calls = [pool.submit(ask, at) for at in range(2)]
        until(lambda: api.server.requests > asked)
        wrapper.stop(reason)
        assert {call.result(20) for call in calls} == {"hi", reason.message}
        assert ask(0) == reason.message


def test_a_call_that_waits_for_a_key_raises_the_reason_of_a_stop(serve: Serve) -> None:
    api = serve(keys={KEY: SPENT})

    with api.wrapper() as wrapper, ThreadPoolExecutor(1) as pool:
        call = pool.submit(wrapper.complete, **CHAT)
        until(lambda: api.server.stats.answered == 1)
        wrapper.stop(RunStopped("the pipeline has ended"))
        with pytest.raises(RunStopped, match="the pipeline has ended"):
            call.result(20)


def test_it_tells_again_and_again_and_of_a_file_that_is_wrong(
    serve: Serve, lark: LarkServer
) -> None:
    api = serve(keys={KEY: SPENT})

    with (
        api.wrapper(base_wait_time=0.1, lark_hook=lark.hook) as wrapper,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(wrapper.complete, **CHAT)
        told = lark.wait_for(4)
        api.config.write_text("{")
        until(lambda: any("keys stay as they were" in text for text in lark.texts))
        api.write_config("sk-fresh-1")
        call.result(20)

    assert "waiting for 0." in told[3]


def test_a_hook_may_be_a_bot_that_signs(serve: Serve, lark: LarkServer) -> None:
    api = serve(keys={KEY: SPENT})

    bot = LarkBot(lark.hook, secret="a-secret")
    with api.wrapper(lark_hook=bot, key_wait_s=0) as wrapper, pytest.raises(Exception, match="429"):
        wrapper.complete(**CHAT)
    lark.wait_for(1)
    assert lark.received[0].body["sign"]


def test_the_words_of_a_server_call_nobody_in_the_group(serve: Serve, lark: LarkServer) -> None:
    api = serve(models=["m"])
    asked = CHAT | {"engine": '<at user_id="all">'}  # which the server's refusal quotes

    with (
        api.wrapper(lark_hook=lark.hook, key_wait_s=0) as wrapper,
        pytest.raises(Exception, match=r"404|403"),
    ):
        wrapper.complete(**asked)
    (text, *_) = lark.wait_for(1)
    assert '< at user_id="all">' in text
    assert "<at" not in text


def test_a_dead_hook_harms_no_call(serve: Serve) -> None:
    api = serve(keys={"sk-spent-1": SPENT})
    api.write_config("sk-spent-1", "sk-fresh-2")

    with api.wrapper(lark_hook="http://127.0.0.1:9/hook") as wrapper:
        assert wrapper.complete(**CHAT).key_name == "key 2"


@pytest.mark.parametrize("hook", ["ftp://host/x", "http://example.com/hook", "nonsense"])
def test_a_hook_that_is_none_is_told_at_once(api: Api, hook: str) -> None:
    with pytest.raises(ValueError, match="Lark hook"):
        api.wrapper(lark_hook=hook)


def shown(error: BaseException) -> Iterator[str]:
    """All that a report of an error may show: itself, its chain, and the values in its frames."""
    yield "".join(traceback.format_exception(error))
    yield f"{error!r} {error} {vars(error)!r}"
    for link in (error.__cause__, error.__context__):
        if link is not None:
            yield from shown(link)
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename.startswith(PACKAGE):
            for name, value in frame.tb_frame.f_locals.items():
                yield f"{frame.tb_frame.f_code.co_qualname}: {name} = {value!r}"
        frame = frame.tb_next


def raised(work: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # any: only its looks matter
        work()
    return caught.value


def is_secret(text: str) -> bool:
    return KEY in text or TOKEN in text


@pytest.mark.parametrize(
    "failure",
    ["invalid_api_key", "insufficient_quota", "context_length_exceeded", "server_500", "html_200"],
)
def test_no_failure_shows_a_key_or_a_hook(
    serve: Serve, lark: LarkServer, failure: str, logged: pytest.LogCaptureFixture
) -> None:
    api = serve(failures={failure: "100%"})

    with api.wrapper(lark_hook=lark.hook, attempts=1, key_wait_s=0) as wrapper:
        error = raised(lambda: wrapper.completions_with_backoff(**CHAT))

    assert any(text.startswith("SharedEngine.run: self = ") for text in shown(error))
    assert [text for text in shown(error) if is_secret(text)] == []
    assert [text for text in lark.texts if is_secret(text)] == []
    assert not is_secret(logged.text)


def test_a_wrapper_and_what_it_is_made_of_show_neither(api: Api, lark: LarkServer) -> None:
    with api.wrapper(lark_hook=lark.hook) as wrapper:
        wrapper.complete(**CHAT)
        assert repr(wrapper) == f"GPTWrapper({api.config}, 1 key)"
        values: list[Any] = [wrapper, *vars(wrapper).values()]
        values += [vars(value) for value in values if hasattr(value, "__dict__")]
        assert not is_secret(repr(values))


@pytest.mark.parametrize(
    "broken", ['{"key_list": [{"api_key": "KEY", "nmae": 1}]}', '{"key_list": [{"api_key": "KEY"']
)
def test_a_wrong_file_shows_neither(api: Api, lark: LarkServer, broken: str) -> None:
    api.config.write_text(broken.replace("KEY", KEY))

    error = raised(lambda: GPTWrapper(api.config, lark_hook=lark.hook))

    assert isinstance(error, ConfigError)
    assert [text for text in shown(error) if is_secret(text)] == []


def test_a_wrong_hook_is_not_shown(api: Api) -> None:
    hook = f"http://example.com/{TOKEN}"

    assert [t for t in shown(raised(lambda: GPTWrapper(api.config, 30, hook))) if TOKEN in t] == []


def test_a_config_that_names_no_key_twice(api: Api) -> None:
    entry = {"api_key": KEY, "base_url": api.server.base_url}
    api.config.write_text(json.dumps({"key_list": [entry, entry]}))

    with api.wrapper() as wrapper:
        assert wrapper.completions_with_backoff(**CHAT) == "hi"
