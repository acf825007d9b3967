from __future__ import annotations

from gptflow.engine.standing import KeyState
from gptflow.runner.key_line import KeyLine
from gptflow.runner.tally import KeyShare

LIMIT = (("requests", 1980.0),)


def share(name: str, answered: int, word: str = "ready", **more: object) -> KeyShare:
    state = KeyState(name, word, 3, **more)  # type: ignore[arg-type]  # the fields vary
    return KeyShare(state, answered)


def test_each_key_is_shown_with_its_speed_and_its_limit() -> None:
    now = 0.0
    line = KeyLine(lambda: now)
    line.text([share("main", 0, limits=LIMIT), share("backup", 0), share("old", 5, "exhausted")])
    now = 2.0

    text = line.text(
        [share("main", 62, limits=LIMIT), share("backup", 20), share("old", 5, "exhausted")]
    )

    assert text == "keys  main 31/s of 33   backup 10/s   old spent"


def test_the_speed_is_that_of_the_last_seconds() -> None:
    now = 0.0
    line = KeyLine(lambda: now)
    for second in range(20):
        now = float(second)
        text = line.text([share("a", second * 10 if second < 10 else 100), share("b", 0)])

    assert text == "keys  a 0/s   b 0/s"


def test_a_key_that_rests_says_for_how_long() -> None:
    line = KeyLine(lambda: 100.0)
    assert line.text([share("a", 1, "resting", until=190.0)]) == "keys  a rests for 1:30 min"


def test_many_keys_are_counted() -> None:
    line = KeyLine(lambda: 0.0)
    keys = [share(f"k{n}", 0, "exhausted" if n < 3 else "ready") for n in range(10)]
    assert line.text(keys) == "keys  7 working   3 spent   0/s"


def test_one_key_without_limits_is_no_news() -> None:
    assert KeyLine(lambda: 0.0).text([share("a", 1)]) == ""
    assert KeyLine(lambda: 0.0).text([]) == ""
