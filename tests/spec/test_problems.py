from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.errors import SpecError
from gptflow.spec.problems import (
    Place,
    Problem,
    did_you_mean,
    in_order,
    place_in_text,
)

ANY_PLACE = Place("label.yaml", 3, 1)


def shown(text: str, column: int, length: int = 1) -> list[str]:
    """The line and the carets below it, as they are shown."""
    return Problem("m", Place("f", 7, column, length, text)).render().split("\n")[1:]


def test_a_problem_is_shown_with_its_line_a_caret_and_a_hint() -> None:
    place = Place("label.yaml", 21, 5, 10, "    paralelism: {mode: async}")
    problem = Problem("unknown key 'paralelism'", place, "did you mean 'parallelism'?")
    assert problem.render() == (
        "label.yaml:21:5: unknown key 'paralelism'\n"
        "   21 |     paralelism: {mode: async}\n"
        "      |     ^^^^^^^^^^\n"
        "Hint: did you mean 'parallelism'?"
    )


def test_without_a_line_only_the_words_are_shown() -> None:
    assert Problem("too large", Place("f.yaml", 0, 0)).render() == "f.yaml: too large"


def test_wide_characters_do_not_push_the_caret_off() -> None:
    assert shown("评论: 好 x", 7)[1] == "      |          ^"
    assert shown("a: 评论", 4, 2)[1] == "      |    ^^^^"


def test_combining_characters_take_no_room() -> None:
    assert shown("e\u0301e\u0301 x", 6)[1] == "      |    ^"


def test_a_tab_stands_above_a_tab() -> None:
    assert shown("a:\tb\tc", 6) == ["    7 | a:\tb\tc", "      |   \t \t^"]


def test_a_long_line_is_cut_around_the_caret() -> None:
    line, carets = shown("x" * 500 + "HERE" + "y" * 500, 501, 4)
    assert len(line) < 140
    assert line[carets.index("^") :].startswith("HERE")
    assert line.endswith("…")
    assert carets.endswith("^^^^")


def test_nothing_in_a_spec_can_command_the_terminal() -> None:
    place = Place("f", 1, 1, 1, "\x1b]0;evil\x07 \u202eabc")
    rendered = Problem("found '\x1b[2J'", place, "\x9b1m").render()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(rendered)


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 problem;"), (2, "2 problems;"), (1200, "1,200")]
)
def test_all_problems_end_with_their_count(count: int, words: str) -> None:
    last = str(SpecError([Problem("m", ANY_PLACE)] * count)).splitlines()[-1]
    assert last.startswith(words)
    assert last.endswith("nothing was sent.")


def test_problems_come_in_the_order_of_the_file_and_once() -> None:
    first, second = Problem("b", Place("f", 2, 9)), Problem("a", Place("f", 10, 1))
    assert in_order([second, first, second]) == [first, second]


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("promt", "prompt"), ("Name", "name"), ("paralelism", "parallelism"), ("xyz", None)],
)
def test_a_slip_is_guessed_when_something_is_near(slip: str, meant: str | None) -> None:
    assert did_you_mean(slip, ["name", "prompt", "parallelism"]) == meant


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(end: str) -> None:
    text = end.join(["one", "two", "three"])
    place = place_in_text("f", text, text.index("wo"), 2)
    assert place == Place("f", 2, 2, 2, "two")


def test_a_stretch_ends_with_its_line() -> None:
    assert place_in_text("f", "one\ntwo", 1, 99) == Place("f", 1, 2, 2, "one")


@given(st.text(), st.integers(0, 50), st.integers(0, 50))
def test_any_offset_has_a_place(text: str, offset: int, length: int) -> None:
    place = place_in_text("f", text, min(offset, len(text)), length)
    assert place.line >= 1
    assert 1 <= place.column <= len(place.text) + 1
    assert Problem("m", place).render()
