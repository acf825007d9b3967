from __future__ import annotations

from itertools import count

import pytest
from jinja2.exceptions import SecurityError

from gptflow.pipeline.prompts import PromptEnvironment, render
from gptflow.pipeline.render_budget import MAX_MADE_CHARS, RenderBudget

NESTED = "{% set ns = namespace(l=()) %}{% for i in range(60) %}{% set ns.l = MADE %}{% endfor %}"


def rendered(template: str, **names: object) -> str:
    """The text, with a clock by which each look takes a second."""
    environment = PromptEnvironment()
    environment.budget.__init__(count().__next__, count().__next__)  # type: ignore[misc]
    return render(environment.from_string(template), names)


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(99) %}{% endfor %}",
        "{% for i in text %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(9) }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ],
)
def test_a_rendering_without_end_is_ended_in_time(text: str) -> None:
    with pytest.raises(SecurityError, match="more than 5 s"):
        rendered(text, text="a" * 99)


def test_files_that_include_themselves_twice_are_ended_in_time() -> None:
    twice = "{% set n = n - 1 %}{% if n %}{% include 'x' %}{% include 'x' %}{% endif %}"
    environment = PromptEnvironment({"x": twice})
    environment.budget.__init__(count().__next__, count().__next__)  # type: ignore[misc]
    with pytest.raises(SecurityError, match="more than 5 s"):
        render(environment.from_string(twice), {"n": 60})


def test_each_rendering_has_its_own_time() -> None:
    budget = RenderBudget(iter([0.0, 4.0, 0.0, 4.0]).__next__, count().__next__)
    for _ in range(2):
        budget.begin()
        budget.step()
        budget.step()


@pytest.mark.parametrize(
    "step",
    [
        "{% set ns.l = ns.l + [text[1:]] %}",
        "{% set ns.l = ns.l + [text ~ 1] %}",
        "{% set ns.l = ns.l + [text.upper()] %}",
        "{% set ns.l = ns.l + [text | upper] %}",
        "{% set ns.l = ns.l + text.split('a') %}",
    ],
)
def test_a_list_that_keeps_what_was_made_is_refused(step: str) -> None:
    loop = f"{{% set ns = namespace(l=[]) %}}{{% for i in range(999) %}}{step}{{% endfor %}}"
    environment = PromptEnvironment()
    with pytest.raises(SecurityError, match=r"on the way is larger|longer than"):
        render(environment.from_string(loop), {"text": "a" * (MAX_MADE_CHARS // 200)})


@pytest.mark.parametrize(
    "made",
    ["(ns.l, ns.l)", "[ns.l, ns.l]", "{'a': ns.l, 'b': ns.l}", "dict(a=ns.l, b=ns.l)"],
)
def test_what_holds_itself_many_times_is_refused_where_it_is_built(made: str) -> None:
    environment = PromptEnvironment()
    template = environment.from_string(NESTED.replace("MADE", made) + "{{ ns.l == ns.l }}")
    with pytest.raises(SecurityError, match="a list holds more than"):
        render(template, {})


def test_a_namespace_is_not_printed() -> None:
    made = "namespace(a=ns.l, b=ns.l)"
    for shown in ("{{ ns }}", "{{ [ns] }}", "{{ ns.l | string }}"):
        with pytest.raises(SecurityError, match="namespace"):
            rendered(
                "{% set ns = namespace(l=()) %}{% set ns.l = MADE %}".replace("MADE", made) + shown
            )
