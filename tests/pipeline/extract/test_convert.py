from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.invalid import BadExtractor, Invalid
from gptflow.pipeline.extract.label import LabelSet
from gptflow.spec.extractor import FieldType


@pytest.mark.parametrize(
    ("kind", "value", "converted"),
    [
        ("str", "a", "a"),
        ("str", 3, "3"),
        ("str", 3.5, "3.5"),
        ("str", True, "true"),
        ("int", "12", 12),
        ("int", " -3\n", -3),
        ("int", "+4", 4),
        ("int", "1,234,567", 1234567),
        ("int", "3.0", 3),
        ("int", 3.0, 3),
        ("int", "1,234.0", 1234),
        ("float", "3.5", 3.5),
        ("float", ".5", 0.5),
        ("float", "1e-3", 0.001),
        ("float", "1,234.5", 1234.5),
        ("float", 3, 3.0),
        ("bool", "Yes.", True),
        ("bool", "**FALSE**", False),
        ("bool", 0, False),
        ("bool", "1", True),
        ("list", '["a"]', ["a"]),
        ("list", [1], [1]),
        ("dict", '{"a": 1}', {"a": 1}),
    ],
)
def test_a_value_becomes_the_type(kind: FieldType, value: object, converted: object) -> None:
    result = Conversion("field", kind)(value)
    assert (result, type(result)) == (converted, type(converted))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("str", ["a"]),
        ("str", {}),
        ("int", "4 stars"),
        ("int", "3.5"),
        ("int", 3.5),
        ("int", True),
        ("int", "1,23"),
        ("int", ""),
        ("int", "9" * 5000),
        ("float", "nan"),
        ("float", "50%"),
        ("float", "."),
        ("float", "-"),
        ("float", "1e999"),
        ("float", 10**400),
        ("float", False),
        ("bool", "maybe"),
        ("bool", 2),
        ("bool", []),
        ("list", "a, b"),
        ("list", {}),
        ("dict", "[1]"),
        *((kind, None) for kind in get_args(FieldType)),
    ],
)
def test_what_cannot_be_the_type_is_invalid(kind: FieldType, value: object) -> None:
    with pytest.raises(Invalid, match=r"^field is .*, expected "):
        Conversion("field", kind)(value)


@given(st.sampled_from(get_args(FieldType)), st.text() | st.integers() | st.floats() | st.none())
def test_no_value_makes_it_raise_anything_but_invalid(kind: FieldType, value: object) -> None:
    try:
        result = Conversion("field", kind)(value)
    except Invalid:
        return
    assert type(result).__name__ == kind


@pytest.mark.parametrize(
    "value", ["positive", " Positive. ", "**POSITIVE**", '"positive"', "「positive」"]
)
def test_one_of_forgives_case_and_punctuation(value: str) -> None:
    assert Conversion("label", None, labels("positive", "negative"))(value) == "positive"


def test_one_of_names_the_labels_when_it_refuses() -> None:
    with pytest.raises(Invalid, match=r'^label is "meh", expected one of positive, negative$'):
        Conversion("label", None, labels("positive", "negative"))("meh")


@pytest.mark.parametrize("value", [None, {}, "positively", "not positive"])
def test_one_of_takes_nothing_else(value: object) -> None:
    with pytest.raises(Invalid):
        Conversion("label", None, labels("positive"))(value)


def test_one_of_holds_for_each_element_of_a_list() -> None:
    convert = Conversion("tags", "list", labels("Red", "Blue"))
    assert convert(["red", "BLUE"]) == ["Red", "Blue"]
    with pytest.raises(Invalid, match="tags is"):
        convert(["red", "green"])


def test_the_type_applies_to_the_label_as_the_spec_writes_it() -> None:
    assert Conversion("stars", "int", labels("1", "2"))("2.") == 2


def test_a_label_that_cannot_be_the_type_is_refused_when_it_is_built() -> None:
    with pytest.raises(BadExtractor, match="'two' cannot be of the type int") as refusal:
        Conversion("stars", "int", labels("1", "two"))
    assert (refusal.value.key, refusal.value.path) == ("one_of", (1,))


def test_each_applies_to_the_elements() -> None:
    assert Conversion("n", "int", each=True)(["1", "2"]) == [1, 2]


def test_a_null_without_type_is_kept() -> None:
    assert Conversion("field")(None) is None


@pytest.mark.parametrize(
    ("names", "message", "index"),
    [
        (["a", "b", "a"], "listed twice", 2),
        (["Not sure", "not-sure"], "differ only in case or punctuation", 1),
        (["a", " "], "is empty", 1),
        ([], "no labels", None),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(
    names: list[str], message: str, index: int | None
) -> None:
    with pytest.raises(BadExtractor, match=message) as refusal:
        labels(*names)
    assert refusal.value.path == (() if index is None else (index,))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_every_label_of_a_set_is_itself(names: list[str]) -> None:
    try:
        label_set = labels(*names)
    except BadExtractor:
        return
    assert [label_set.match("label", f" {name} ") for name in names] == names


def test_signs_can_make_a_label() -> None:
    assert [labels("C", "C++", "C#", "+", "-").match("x", name) for name in ["c", "c++", "-"]] == [
        "C",
        "C++",
        "-",
    ]


def labels(*names: Any) -> LabelSet:
    return LabelSet(names, "one_of")
