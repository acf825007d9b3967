from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gptflow.spec.model import Spec
from gptflow.spec.problems import Problem

Problems = Callable[..., list[Problem]]
Load = Callable[..., Spec]


def section(**lark: Any) -> str:
    keys = ", ".join(f"{key}: {value}" for key, value in lark.items())
    return f"notify: {{lark: {{{keys}}}}}\n"


def test_a_spec_tells_nobody_unless_it_says_so(load: Load, minimal: str) -> None:
    assert load().notify.lark is None
    assert load().notify.base_wait_s == 30
    assert load(f"{minimal}notify: {{lark: null}}\n").notify.lark is None


def test_without_more_words_lark_is_told_of_everything(load: Load, minimal: str) -> None:
    lark = load(minimal + section(hook="https://a.example/1")).notify.lark
    assert lark is not None
    assert lark.on == ["start", "finish", "failure", "exhausted"]
    assert (lark.secret, lark.keyword, lark.base_wait_s) == (None, "", 30)


def test_every_key_can_be_given(load: Load, minimal: str) -> None:
    text = section(hook='"${H}"', secret='"${S}"', on="[failure]", base_wait_s=5, keyword="lab")
    spec = load(minimal + text, environ={"H": "http://127.0.0.1:80/x", "S": "abc"})
    assert spec.notify.lark is not None
    assert spec.notify.lark.on == ["failure"]
    assert spec.notify.lark.keyword == "lab"
    assert spec.notify.base_wait_s == 5


@pytest.mark.parametrize(
    ("lark", "message", "hint"),
    [
        ({}, "the key 'hook' is missing", "hook: '${LARK_HOOK}'"),
        ({"hook": '"${GONE}"'}, "no variable GONE", "export GONE"),
        ({"hook": "http://a.example/x"}, "not an https URL", "https://open.larksuite.com or"),
        ({"hook": "https://a.example"}, "not an https URL", ""),
        ({"hook": "https://a.example/1", "on": "[begin]"}, "'start', 'finish'", ""),
        ({"hook": "https://a.example/1", "base_wait_s": 0}, "a number above 0", ""),
        ({"hook": "https://a.example/1", "keywords": "x"}, "unknown key", "'keyword'"),
    ],
)
def test_a_mistake_is_told_with_a_hint(
    lark: dict[str, Any], message: str, hint: str, problems: Problems, minimal: str
) -> None:
    found = problems(minimal + section(**lark))
    assert message in found[0].message
    assert hint in (found[0].hint or "")
