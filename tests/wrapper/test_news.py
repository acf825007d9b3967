from __future__ import annotations

import pytest

from gptflow.engine.events import (
    ConfigBroken,
    Event,
    KeyExhausted,
    KeyRested,
    KeyRetired,
    KeysBack,
    KeysSpent,
    KeyUsed,
    OutageBegan,
    OutageEnded,
)
from gptflow.wrapper.news import news_of


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (KeyExhausted("main", "pay"), "main has no money or quota left: pay"),
        (KeyRetired("main", "no such key"), "main is not valid: no such key"),
        (
            KeysSpent("no key is left\n  main: pay", "mend config.json", 0.0),
            "no key is left\n  main: pay\nAll calls wait.\nHint: mend config.json",
        ),
        (
            KeysSpent("no key is left", "mend config.json", 90.0),
            "no key is left\nAll calls wait. It has been 2 min.\nHint: mend config.json",
        ),
        (KeysBack(30.0), "there is a usable key again: calls go on after 30 s"),
        (
            ConfigBroken("config.json:1:2: wrong"),
            "the configuration has changed, but cannot be used:\nconfig.json:1:2: wrong",
        ),
        (OutageBegan("refused"), "no server answers: refused\nAll calls wait."),
        (OutageEnded(9000.0), "a server answers again: calls go on after 2.5 h"),
    ],
)
def test_what_people_can_do_something_about_is_told(event: Event, told: str) -> None:
    assert news_of(event) == told


@pytest.mark.parametrize("event", [KeyUsed("main"), KeyRested("main", 5.0, "slow down")])
def test_the_rest_is_not(event: Event) -> None:
    assert news_of(event) is None
