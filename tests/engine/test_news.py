from __future__ import annotations

import pytest

from gptflow.engine.events import (
    CallRetried,
    ConfigBroken,
    Event,
    KeyExhausted,
    KeyRested,
    KeyRetired,
    KeysBack,
    KeysChanged,
    KeysSpent,
    KeyUsed,
    ModelMissing,
    OutageBegan,
    OutageEnded,
)
from gptflow.engine.news import LINE_CHARS, news_of

RETRIED = CallRetried("label", "m", "main", 1, 0.1, 500, "busy")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (KeyExhausted("main", "pay"), "key main is spent: pay"),
        (KeyRetired("key 3", "no such key"), "key 3 is out: no such key"),
        (ModelMissing("main", "m", "no such model"), "key main does not serve m: no such model"),
        (KeyRested("main", 7200.0, "per day"), "key main rests for 2:00:00 h: per day"),
        (
            KeysSpent("no key is left\n  main: pay", "mend config.json", 0.0),
            "waiting: no key is left\n  main: pay\nHint: mend config.json",
        ),
        (
            KeysSpent("no key is left", "mend config.json", 90.0),
            "waiting for 1:30 min: no key is left\nHint: mend config.json",
        ),
        (KeysBack(30.0), "going on after 30 s: there is a usable key again"),
        (
            KeysChanged(("new", "main"), ("old", "main")),
            "the config was read again: key new added; key old removed; key main changed",
        ),
        (KeysChanged((), ()), "the config was read again: no key changed"),
        (
            ConfigBroken("config.json:1:2: wrong"),
            "config.json:1:2: wrong\nThe keys stay as they were.",
        ),
        (
            OutageBegan("refused"),
            "no server answers (refused): waiting, and trying every now and then",
        ),
        (OutageEnded(9000.0), "going on after 2:30:00 h: the server answers again"),
    ],
)
def test_what_people_should_know_is_told(event: Event, told: str) -> None:
    assert news_of(event) == told


@pytest.mark.parametrize("event", [KeyUsed("main"), KeyRested("main", 5.0, "slow down"), RETRIED])
def test_the_rest_is_not(event: Event) -> None:
    assert news_of(event) is None


def test_what_became_of_a_key_is_cut_to_a_line() -> None:
    told = news_of(KeysSpent(f"no key is left\n  main: {'x' * 200}", "mend config.json", 0.0))

    assert told is not None
    assert [len(line) for line in told.splitlines()][1] == LINE_CHARS
