from __future__ import annotations

import pytest

from gptflow.engine.duration import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (59.6, "1:00 min"),
        (185, "3:05 min"),
        (3599.6, "1:00:00 h"),
        (7800, "2:10:00 h"),
        (360_000, "100:00:00 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
