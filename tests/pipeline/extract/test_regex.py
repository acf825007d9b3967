from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from gptflow.pipeline.extract.extractor import build, extract_all
from gptflow.pipeline.extract.invalid import BadExtractor, Invalid
from gptflow.spec.extractor import RegexExtractor


def found(reply: str, regex: str, **options: Any) -> object:
    spec = RegexExtractor(regex=regex, **options)
    return extract_all([build("field", spec)], reply)["field"]


@pytest.mark.parametrize(
    ("regex", "options", "value"),
    [
        (r"\d+", {}, "12"),
        (r"(\d)(\d)", {}, "1"),
        (r"(\d)(\d)", {"group": 2}, "2"),
        (r"(\d)(\d)", {"group": 0}, "12"),
        (r"(?P<tens>\d)(?P<ones>\d)", {"group": "ones"}, "2"),
        (r"\d", {"all": True}, ["1", "2", "3"]),
        (r"\d", {"all": True, "type": "int"}, [1, 2, 3]),
        (r"(\d)(b)?", {"group": 2, "all": True}, ["b"]),
        (r"SCORE (\d+)", {"flags": "i"}, "12"),
        (r"^(\w+)$", {"flags": "m", "all": True}, ["end"]),
        (r"score(.*)end", {"flags": "s"}, " 12, 3b\n"),
        ("score [ ] # its figure\n([0-9]+)", {"flags": "x", "type": "int"}, 12),
        (r"\w+", {"flags": "a"}, "score"),
    ],
)
def test_a_pattern_gives_its_group(regex: str, options: dict[str, Any], value: object) -> None:
    assert found("score 12, 3b\nend", regex, **options) == value


@pytest.mark.parametrize(
    ("regex", "options", "complaint"),
    [
        (r"score: (\d)", {}, r'field is missing: nothing matches "score: '),
        (r"\d{9}", {"all": True}, "field is missing: nothing matches"),
        (r"a(b)?(c)", {"group": 1}, "field is missing: its group 1 took no part"),
        (r"(a)", {"type": "int"}, 'field is "a", expected a whole number'),
    ],
)
def test_a_reply_without_the_group_is_invalid(
    regex: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(Invalid, match=complaint):
        found("ac", regex, **options)


@pytest.mark.parametrize("every", [False, True])
def test_a_search_never_takes_longer_than_its_timeout(every: bool) -> None:
    start = time.perf_counter()
    with pytest.raises(Invalid, match=r"took longer than 0.1 s"):
        found("a" * 40 + "b", r"(a|aa)+$", all=every, timeout_s=0.1)
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("every", [False, True])
def test_other_threads_go_on_during_a_long_search(every: bool) -> None:
    moments: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.01):
            moments.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    start = time.perf_counter()
    with pytest.raises(Invalid, match="took longer"):
        found("a" * 40 + "b", r"(a|aa)+$", all=every, timeout_s=0.5)
    end = time.perf_counter()
    ended.set()
    ticker.join()
    assert len([moment for moment in moments if start < moment < end]) > 3


@pytest.mark.parametrize("every", [False, True])
def test_a_search_that_is_not_quick_has_its_whole_timeout(every: bool) -> None:
    text = "a" * 500_000 + "b"
    assert found(text, "b|a(?=c)", all=every, timeout_s=60) == (["b"] if every else "b")


def test_a_reply_beyond_all_measure_is_not_searched() -> None:
    with pytest.raises(Invalid, match="longer than 4,000,000 characters"):
        found("a" * 4_000_001, "a")


@pytest.mark.parametrize(
    ("options", "key", "message", "hint"),
    [
        ({"regex": "(a"}, "regex", r"not valid: missing \)", None),
        ({"regex": "(" * 5000 + ")" * 5000}, "regex", "nested too deeply", None),
        ({"regex": "(((a{999}){999}){999})"}, "regex", "multiply to more than", "instead of large"),
        ({"regex": "a", "group": 1}, "group", "no group 1", "put parentheses around"),
        ({"regex": "(a)", "group": 2}, "group", "no group 2", "the pattern has 1 group"),
        ({"regex": "(?P<label>a)", "group": "lable"}, "group", "no group 'lable'", "mean 'label'"),
        ({"regex": "(?P<b>a)(c)", "group": "zz"}, "group", "no group 'zz'", "2 groups, named b"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_with_the_key_that_is_wrong(
    options: dict[str, Any], key: str, message: str, hint: str | None
) -> None:
    with pytest.raises(BadExtractor, match=message) as refusal:
        found("", **options)
    assert refusal.value.key == key
    if hint is None:
        assert refusal.value.hint is None
    else:
        assert hint in str(refusal.value.hint)


def test_a_slip_in_a_pattern_has_its_place() -> None:
    with pytest.raises(BadExtractor) as refusal:
        found("", "ab**")
    assert refusal.value.offset == 3


@pytest.mark.parametrize(
    "regex",
    [r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}", r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\s*){2,20}"],
)
def test_everyday_repeats_are_not_refused(regex: str) -> None:
    assert build("field", RegexExtractor(regex=regex)).fields == ("field",)
