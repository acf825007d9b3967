from __future__ import annotations

import pytest

from gptflow.engine import news
from gptflow.engine.events import Event, KeyExhausted, KeyRested, KeysChanged, KeysSpent
from gptflow.wrapper.news import news_of


@pytest.mark.parametrize(
    "event", [KeyExhausted("main", "pay"), KeysSpent("no key is left", "mend it", 60.0)]
)
def test_what_people_can_do_something_about_is_told_in_the_words_of_the_engine(
    event: Event,
) -> None:
    assert news_of(event) == news.news_of(event)


@pytest.mark.parametrize("event", [KeyRested("main", 7200.0, "per day"), KeysChanged(("a",), ())])
def test_the_rest_is_not(event: Event) -> None:
    assert news_of(event) is None
