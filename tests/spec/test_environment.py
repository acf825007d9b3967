from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.spec.environment import expand
from gptflow.spec.load import read_spec
from gptflow.spec.model import Spec
from gptflow.spec.problems import Problem


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A {A} ${} ${1} ${a-b}", "$A {A} ${} ${1} ${a-b}"),
        ("${TWICE}", "${A}"),
    ],
)
def test_a_variable_is_read_once_and_only_in_braces(text: str, result: str) -> None:
    expanded = expand({"k": [text]}, {"A": "1", "TWICE": "${A}"})
    assert expanded.data == {"k": [result]}
    assert expanded.missing == []


def test_keys_are_left_as_they_are() -> None:
    assert expand({"${A}": 1}, {"A": "x"}).data == {"${A}": 1}


@given(st.text("${}A"))
def test_any_text_can_be_written(text: str) -> None:
    assert expand(re.sub(r"\$(?=\{A+\})", "$$", text), {}).data == text


def test_a_missing_variable_is_told_at_its_place_in_the_text(
    problems: Callable[..., list[Problem]], minimal: str
) -> None:
    text = minimal.replace("Tell a story.", "|\n      Tell\n      of ${HERO}!")
    (problem,) = problems(text)
    assert problem.message == "the environment has no variable HERO"
    assert str(problem.place) == "label.yaml:8:10"
    assert problem.place.length == len("${HERO}")


def test_every_missing_variable_is_told(
    problems: Callable[..., list[Problem]], minimal: str
) -> None:
    found = problems(minimal.replace("Tell", "${A} and ${B} and ${A}"))
    assert [problem.place.column for problem in found] == [13, 22, 31]


def test_a_file_with_a_missing_variable_in_its_name_is_not_looked_for(
    problems: Callable[..., list[Problem]], minimal: str
) -> None:
    (problem,) = problems(minimal.replace("range: 3", 'path: "${DATA}/x.jsonl"'))
    assert "DATA" in problem.message


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("range: 3", "range: ${X}", lambda spec: spec.source.range),
        ("gpt-4o-mini", "m, temperature: ${X}", lambda spec: spec.model.params["temperature"]),
    ],
)
def test_a_variable_may_stand_for_a_number(
    before: str, after: str, value: Callable[[Spec], Any], load: Callable[..., Spec], minimal: str
) -> None:
    spec = load(minimal.replace(before, after.replace("${X}", '"${X}"')), environ={"X": "2"})
    assert value(spec) == 2


def test_a_variable_that_looks_like_a_number_is_text_where_text_is_expected(
    load: Callable[..., Spec], minimal: str
) -> None:
    text = minimal.replace("tiny", "${X}").replace("gpt-4o-mini", '"${X}"')
    spec = load(text, environ={"X": "2024"})
    assert (spec.name, spec.model.name) == ("2024", "2024")


def test_a_variable_of_a_wrong_type_is_a_problem_like_any_other(minimal: str, folder: Path) -> None:
    path = folder / "label.yaml"
    path.write_text(minimal.replace("range: 3", 'range: "${X}"'))
    (problem,) = read_spec(path, environ={"X": "many"}).problems
    assert problem.message == "expected a whole number of at least 1, found 'many'"
