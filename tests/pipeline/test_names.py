from __future__ import annotations

import pytest

from gptflow.pipeline.names import Scope, included_templates, unknown_names
from gptflow.pipeline.prompts import PromptEnvironment

ENVIRONMENT = PromptEnvironment()
SCOPE = Scope(
    vars=frozenset(["labels"]),
    columns=("id", "text", "stars"),
    steps={"label": frozenset(["label", "reason"])},
)


def unknown(text: str, scope: Scope = SCOPE) -> list[tuple[str, int]]:
    return [(found.name, found.offset) for found in unknown_names(ENVIRONMENT, text, scope)]


def test_columns_vars_fields_and_namespaces_are_known() -> None:
    text = "{{ text }}{{ labels }}{{ label }}{{ row.id }}{{ vars.labels }}{{ steps.label.reply }}"
    text += "{{ steps.label.fields.reason }}{{ steps.label.fields.items() }}{{ row[labels].x }}"
    assert unknown(text) == []


def test_an_unknown_name_is_found_at_its_character() -> None:
    assert unknown("Review:\n  {{ stars }} {{ txet }}") == [("txet", 25)]


def test_several_unknown_names_come_in_the_order_of_the_text() -> None:
    assert [name for name, _ in unknown("{{ zz }}{{ text }}{{ aa }}")] == ["zz", "aa"]


def test_a_name_that_also_stands_as_an_attribute_is_found_where_it_is_used() -> None:
    assert unknown("{{ row.text.foo }} {{ foo }}") == [("foo", 22)]


def test_names_that_the_template_makes_itself_are_known() -> None:
    text = "{% set x = 1 %}{% for y in labels %}{{ x }}{{ y }}{{ loop.index }}{% endfor %}"
    assert unknown(text) == []


@pytest.mark.parametrize(
    "text", ["{{ title | default('') }}", "{% if title is defined %}{{ title }}{% endif %}"]
)
def test_a_name_that_the_template_tests_may_be_missing(text: str) -> None:
    assert unknown(text) == []


@pytest.mark.parametrize(
    ("text", "name", "offset"),
    [
        ("{{ row.txet }}", "txet", 7),
        ("{{ row['txet'] }}", "txet", 8),
        ("{{ vars.lables }}", "lables", 8),
        ("{{ steps.lable.reply }}", "lable", 9),
        ("{{ steps.label.repyl }}", "repyl", 15),
        ("{{ steps['label']['repyl'] }}", "repyl", 19),
        ("{{ steps.label.fields.lable }}", "lable", 22),
    ],
)
def test_a_namespace_has_only_its_members(text: str, name: str, offset: int) -> None:
    assert unknown(text) == [(name, offset)]


def test_where_the_columns_are_not_known_any_name_may_be_one() -> None:
    assert unknown("{{ anything }}{{ row.anything }}", Scope()) == []


def test_white_space_control_does_not_shift_the_place() -> None:
    text = "a   {%- if text -%}   {{ txet }}{% endif %}"
    assert unknown(text) == [("txet", text.index("txet"))]


def test_included_templates_are_named_with_their_places() -> None:
    text = "{% include 'a.j2' %}{% from \"b.j2\" import m %}{% include labels[0] %}"
    assert included_templates(ENVIRONMENT, text) == [("a.j2", 12), (None, 0), ("b.j2", 29)]


def test_a_bare_self_is_jinjas_own_even_where_a_column_is_called_so() -> None:
    scope = Scope(columns=("self",))
    assert unknown("a {{ self }} {{ row.self }}", scope) == [("self", 5)]
    assert unknown("{{ row.self }}{% block b %}x{% endblock %}{{ self.b() }}", scope) == []
