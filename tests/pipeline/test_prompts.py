from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import TemplateError, TemplateNotFound
from jinja2.exceptions import SecurityError, UndefinedError

from gptflow.pipeline.prompts import RENDER_ERRORS, PromptEnvironment, render


def rendered(template: str, **names: object) -> str:
    return render(PromptEnvironment().from_string(template), names)


def test_a_template_sees_the_names_it_is_given() -> None:
    assert rendered("{{ a }} and {{ row.b }}", a=1, row={"b": 2}) == "1 and 2"


def test_a_missing_name_is_an_error_and_not_an_empty_string() -> None:
    with pytest.raises(UndefinedError, match="txet"):
        rendered("{{ txet }}")


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "pop", "update"])
def test_a_column_named_like_a_method_is_the_column(name: str) -> None:
    assert rendered(f"{{{{ row.{name} }}}}", row={name: "mine"}) == "mine"


def test_a_method_of_a_mapping_can_be_called() -> None:
    text = "{% for k, v in row.items() %}{{ k }}={{ v }};{% endfor %}"
    assert rendered(text, row={"a": 1, "b": 2}) == "a=1;b=2;"


def test_a_method_of_a_mapping_is_never_printed() -> None:
    with pytest.raises(UndefinedError, match="items"):
        rendered("{{ row.items }}", row={"a": 1})


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ row.__class__.__init__.__globals__ }}",
        "{{ '%s' | attr('format') }}{{ ('{0.__class__}').format(row) }}",
        "{{ row.update({'a': 2}) }}",
        "{{ row.clear() }}",
    ],
)
def test_the_sandbox_lets_nothing_out_and_changes_nothing(text: str) -> None:
    row = {"a": 1}
    with pytest.raises(RENDER_ERRORS):
        rendered(text, row=row)
    assert row == {"a": 1}


@pytest.mark.parametrize(
    "text", ["{{ 'a' * 1000000000 }}", "{{ [0] * 1000000000 }}", "{{ 9 ** 999999999 }}"]
)
def test_a_text_without_end_is_refused_before_it_is_made(text: str) -> None:
    with pytest.raises(SecurityError):
        rendered(text)


def test_a_loop_that_writes_too_much_is_cut() -> None:
    text = (
        "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxx{% endfor %}{% endfor %}"
    )
    with pytest.raises(SecurityError, match="longer than"):
        rendered(text)


def test_data_is_never_rendered_as_a_template() -> None:
    assert rendered("{{ text }}", text="{{ 7 * 7 }}") == "{{ 7 * 7 }}"


@pytest.mark.parametrize("name", ["tone.j2", "./tone.j2", "a/../tone.j2"])
def test_includes_come_from_the_texts_that_were_read(name: str) -> None:
    environment = PromptEnvironment({"tone.j2": "Be {{ tone }}."})
    template = environment.from_string("{% include name %}")
    assert render(template, {"name": name, "tone": "kind"}) == "Be kind."


def test_an_include_never_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(TemplateNotFound):
        rendered("{% include name %}", name=str(tmp_path / "secret.txt"))


def test_an_expression_gives_a_value_and_not_its_text() -> None:
    expression = PromptEnvironment().expression("labels[:1] + [stars > 3]")
    assert expression({"labels": ["a", "b"], "stars": 5}) == ["a", True]


def test_an_expression_without_its_name_raises_when_it_is_judged() -> None:
    expression = PromptEnvironment().expression("missing > 3")
    with pytest.raises(TemplateError):
        expression({})
