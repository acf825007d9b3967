from __future__ import annotations

import pickle

import pytest

from gptflow.notify.hook import Hook, hook_problem, signature

URL = "https://open.larksuite.com/open-apis/bot/v2/hook/canary-token"


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("100", "jquNHnVOwmDRfw+vqTIrY5dooJAgi5EcRtLsQE4wfXg="),
        ("1599360473", "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="),
    ],
)
def test_a_signature_is_what_lark_computes(timestamp: str, expected: str) -> None:
    assert signature(timestamp, "demo") == expected


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://open.feishu.cn/open-apis/bot/v2/hook/x",
        "https://relay.example:8443/lark?room=7",
        "http://127.0.0.1:8080/hook",
        "http://localhost/hook",
        "http://[::1]:80/hook",
    ],
)
def test_any_https_url_is_a_hook_and_http_on_this_machine(url: str) -> None:
    assert hook_problem(url) is None
    assert Hook.find(f" {url}\n", None, {}).url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://open.larksuite.com/canary",
        "http://127.0.0.1.canary.example/hook",
        "http://localhost.canary.example/hook",
        "ftp://127.0.0.1/canary",
        "canary",
        "https:///canary",
        "https://host:canary/",
        "https://[canary/",
        "https://exa\u212ample.com/canary",
        "https://example.com/a canary",
        "https://example.com/\x00canary",
    ],
)
def test_anything_else_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(ValueError, match="Hint: a hook is") as caught:
        Hook.find(url, None, {})
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


def test_without_a_hook_the_environment_is_asked_and_the_error_says_how() -> None:
    assert Hook.find(None, None, {"LARK_HOOK": URL, "LARK_SECRET": "s"}) == Hook(URL, "s")
    assert Hook.find(None, "", {"LARK_HOOK": URL, "LARK_SECRET": "s"}) == Hook(URL)
    for environ in ({}, {"LARK_HOOK": " "}):
        with pytest.raises(ValueError, match="give hook_url, or set LARK_HOOK"):
            Hook.find(None, None, environ)


def test_a_hook_travels_in_a_pickle_and_shows_only_its_host() -> None:
    hook = Hook(URL, "canary-secret")
    assert pickle.loads(pickle.dumps(hook)) == hook
    assert f"{hook} {hook!r}" == "Hook(open.larksuite.com) Hook(open.larksuite.com)"
