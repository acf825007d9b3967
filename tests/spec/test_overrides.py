from __future__ import annotations

from collections.abc import Callable

import pytest

from gptflow.errors import UsageError
from gptflow.spec.model import Spec
from gptflow.spec.problems import Problem

Load = Callable[..., Spec]
Problems = Callable[..., list[Problem]]


def test_a_value_takes_the_place_of_the_files(load: Load) -> None:
    spec = load(overrides=["source.range=7", "steps.0.prompt=Hi", 'vars.labels=["a","b"]'])
    assert (spec.source.range, spec.steps[0].prompt) == (7, "Hi")
    assert spec.vars == {"labels": ["a", "b"]}


def test_a_step_goes_by_its_name_and_what_is_not_there_is_made(load: Load) -> None:
    spec = load(overrides=["steps.ask.model.temperature=1", "limits.attempts=2"])
    assert spec.steps[0].model is not None
    assert spec.steps[0].model.params == {"temperature": 1}
    assert spec.limits.attempts == 2


def test_values_are_yaml_like_the_files(load: Load) -> None:
    spec = load(overrides=["vars.a=no", "vars.b=010", "vars.c=", "vars.d=1e3", "vars.e={x: [1]}"])
    assert spec.vars == {"a": "no", "b": "010", "c": None, "d": 1000.0, "e": {"x": [1]}}


def test_a_value_may_have_an_equals_sign_and_lines(load: Load) -> None:
    spec = load(overrides=["source.where=a == 1", "steps.0.prompt=|\n  one\n  two\n"])
    assert spec.source.where == "a == 1"
    assert spec.steps[0].prompt == "one\ntwo\n"


def test_python_sets_plain_data(load: Load) -> None:
    spec = load(values={"vars.x": {"a": ["no", None, "010", "é\u2028\n"]}, "source.range": 5})
    assert spec.vars == {"x": {"a": ["no", None, "010", "é\u2028\n"]}}
    assert spec.source.range == 5


def test_python_cannot_set_what_is_no_plain_data(load: Load) -> None:
    with pytest.raises(UsageError, match="not plain data"):
        load(values={"vars.x": object()})


def test_the_last_of_several_wins(load: Load) -> None:
    spec = load(values={"source.range": 4}, overrides=["source.range=5", "source.range=6"])
    assert spec.source.range == 6


@pytest.mark.parametrize(
    ("override", "place", "message", "hint"),
    [
        ("limits.atempts=3", "--set:1:8", "unknown key 'atempts'", "did you mean 'attempts'?"),
        ("limits.attempts=many", "--set:1:17", "at least 1, found 'many'", "Attempts"),
        ("vars.x=${NOPE}", "--set:1:8", "no variable NOPE", "export"),
        ("vars.x=a: b: c", "--set:1:12", "a second colon", "quote"),
        ("vars.x={a: 1, a: 2}", "--set:1:15", "'a' stands here a second time", "remove"),
        ("steps.akk.prompt=x", "--set:1:7", "no item 'akk'", "did you mean 'ask'?"),
        ("steps.3.prompt=x", "--set:1:7", "no item '3'", "it has ask"),
        ("steps.3=x", "--set:1:7", "no item '3'", "it has ask"),
        ("name.x=1", "--set:1:6", "nothing can be set at 'x'", "whole value"),
        ("name.x.y=1", "--set:1:6", "nothing can be set at 'x'", "whole value"),
        ("vars..x=1", "--set:1:6", "a part of the path is empty", "path.to.key=value"),
        ("source.range", "--set:1:1", "this sets nothing", "path=value"),
        ("model.temperature=hot", "--set:1:19", "found 'hot'", "temperature"),
        ("source={path: no.jsonl}", "--set:1:15", "no file 'no.jsonl'", "start from"),
    ],
)
def test_what_is_set_is_checked_like_the_file(
    override: str, place: str, message: str, hint: str, problems: Problems
) -> None:
    (problem,) = problems(overrides=[override])
    assert str(problem.place) == place
    assert problem.place.text == override
    assert message in problem.message
    assert hint in (problem.hint or "")


def test_an_override_mends_what_is_wrong_in_the_file(load: Load, minimal: str) -> None:
    spec = load(minimal.replace("range: 3", "range: none"), overrides=["source.range=3"])
    assert spec.source.range == 3


def test_aliases_do_not_spread_what_is_set(load: Load, minimal: str) -> None:
    text = minimal + "vars: {a: &a {x: 1}, b: *a}\n"
    assert load(text, overrides=["vars.b.x=2"]).vars == {"a": {"x": 1}, "b": {"x": 2}}


def test_a_stretch_of_a_set_value_points_into_the_set(load: Load) -> None:
    spec = load(overrides=["steps.0.prompt=Hi {{ you }}"])
    place = spec.origin.place(("steps", 0, "prompt"), offset=6, length=3)
    assert (str(place), place.text) == ("--set:1:22", "steps.0.prompt=Hi {{ you }}")
