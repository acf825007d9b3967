from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.pipeline.extract.extractor import build, extract_all
from gptflow.pipeline.extract.invalid import Invalid
from gptflow.spec.extractor import ChoiceExtractor

LABELS = ["positive", "very positive", "negative", "not_relevant", "正面", "负面", "C++", "Straße"]


def chosen(reply: str, labels: list[str] = LABELS) -> object:
    return extract_all([build("label", ChoiceExtractor(choice=[*labels]), labels)], reply)["label"]


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("positive", "positive"),
        ("Positive.", "positive"),
        ("The sentiment is **Positive**", "positive"),
        ("__positive__", "positive"),
        ("`negative`\n", "negative"),
        ("Answer:negative", "negative"),
        ("very positive", "very positive"),
        ("VERY  POSITIVE!", "very positive"),
        ("very-positive", "very positive"),
        ("Not relevant", "not_relevant"),
        ("positive, yes, positive", "positive"),
        ("我认为是正面的。", "正面"),
        ("答案是negative吧", "negative"),
        ("I like c++ best", "C++"),
        ("STRASSE", "Straße"),
    ],
)
def test_the_label_that_the_reply_names_is_found(reply: str, label: str) -> None:
    assert chosen(reply) == label


@pytest.mark.parametrize(
    "reply", ["", "positively", "nonpositive", "non-positive", "positive_ish", "neutral"]
)
def test_a_label_inside_another_word_does_not_count(reply: str) -> None:
    with pytest.raises(Invalid, match="expected one of positive, very positive, negative"):
        chosen(reply)


def test_two_different_labels_are_invalid_and_both_named() -> None:
    with pytest.raises(
        Invalid, match="the reply names both positive and negative, expected one of"
    ):
        chosen("It is positive, not negative.")


@pytest.mark.parametrize("reply", ["4.5", "3,4", "44"])
def test_a_digit_is_not_named_by_another_number(reply: str) -> None:
    with pytest.raises(Invalid):
        chosen(reply, ["4", "5"])


@pytest.mark.parametrize(
    ("reply", "label"),
    [("B, since a cat is one", "B"), ("(b)", "B"), ("answer: a", "A"), ("C. I am sure", "C")],
)
def test_a_letter_is_told_from_a_small_word(reply: str, label: str) -> None:
    assert chosen(reply, ["A", "B", "C", "I am not"]) == label


def test_two_letters_in_their_own_case_are_invalid() -> None:
    with pytest.raises(Invalid, match="both A and B"):
        chosen("A or B", ["A", "B"])


def test_meaning_is_not_read() -> None:
    assert chosen("not positive") == "positive"


def test_a_type_applies_to_the_label() -> None:
    spec = ChoiceExtractor(choice=["1", "2"], type="int")
    assert extract_all([build("n", spec, ["1", "2"])], "I say 2!") == {"n": 2}


@given(
    st.sampled_from(LABELS),
    st.sampled_from([str.lower, str.upper, str.title, str.swapcase]),
    st.sampled_from(["", "**", '"', "「", "(", " ", "\n", "...", "Label: ", "是", "# "]),
    st.sampled_from(["", "**", '"', "」", ")", ".", "!", "\n", "。", " it is", "。\n\nOK"]),
)
def test_any_label_in_any_case_and_punctuation_is_found(
    label: str, case: object, before: str, after: str
) -> None:
    assert callable(case)
    assert chosen(f"{before}{case(label)}{after}") == label


@given(
    st.lists(st.from_regex(r"[^\W_]{1,8}( [^\W_]{1,8})?", fullmatch=True), min_size=1, max_size=4)
)
def test_any_labels_are_found_in_quotes(labels: list[str]) -> None:
    if len({" ".join(label.casefold().split()) for label in labels}) < len(labels):
        return
    assert [chosen(f'"{label}"', labels) for label in labels] == labels


def test_a_long_reply_is_searched_quickly() -> None:
    start = time.perf_counter()
    for filler in ("-", "_", "very x ", "posi", "非", "x-"):
        assert chosen(filler * 20_000 + " x positive") == "positive"
    assert time.perf_counter() - start < 20
