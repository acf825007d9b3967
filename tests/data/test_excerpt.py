from __future__ import annotations

from gptflow.data.excerpt import data_error, printable

PLACE = ("x.jsonl", 7)


def test_without_text_there_is_one_line() -> None:
    assert str(data_error(PLACE, "it is broken")) == "x.jsonl:7: it is broken"


def test_the_hint_comes_last() -> None:
    assert str(data_error(PLACE, "broken", text="ab", hint="mend it")).splitlines() == [
        "x.jsonl:7: broken",
        "    ab",
        "Hint: mend it",
    ]


def test_a_spot_in_a_later_line_names_that_line() -> None:
    assert str(data_error(PLACE, "broken", text="one\ntwo\r\nthree", at=5)).splitlines() == [
        "x.jsonl:8: broken",
        "    two",
        "     ^",
    ]


def test_a_long_line_is_shown_around_the_spot() -> None:
    _, shown, caret = str(
        data_error(PLACE, "b", text="x" * 500 + "!" + "y" * 500, at=500)
    ).splitlines()

    assert len(shown) < 100
    assert shown.startswith("    ...xxx")
    assert shown.endswith("yyy...")
    assert shown[caret.index("^")] == "!"


def test_the_spot_is_found_behind_bytes_that_are_not_text() -> None:
    _, shown, caret = str(data_error(PLACE, "b", text=b"\xff\xc3\xa9\xfe!", at=4)).splitlines()

    assert shown == "    \\xffé\\xfe!"
    assert caret.index("^") == shown.index("!")


def test_nothing_that_steers_a_terminal_is_shown() -> None:
    assert printable("\x1b[31mred\u202e\x07\x9b") == "\\x1b[31mred\\u202e\\x07\\x9b"
    assert printable("größer 日本語") == "größer 日本語"


def test_a_place_without_lines_is_named_alone() -> None:
    assert str(data_error(("source.rows.3", 0), "broken")) == "source.rows.3: broken"
