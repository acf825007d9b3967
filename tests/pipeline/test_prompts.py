from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import TemplateError, TemplateNotFound
from jinja2.exceptions import SecurityError, UndefinedError

from gptflow.pipeline.prompts import RENDER_ERRORS, PromptEnvironment, render


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    return tmp_path / "prompts"


def rendered(folder: Path, template: str, **names: object) -> str:
    return render(PromptEnvironment(folder).from_string(template), names)


def test_a_template_sees_the_names_it_is_given(folder: Path) -> None:
    assert rendered(folder, "{{ a }} and {{ row.b }}", a=1, row={"b": 2}) == "1 and 2"


def test_a_missing_name_is_an_error_and_not_an_empty_string(folder: Path) -> None:
    with pytest.raises(UndefinedError, match="txet"):
        rendered(folder, "{{ txet }}")


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "pop", "update"])
def test_a_column_named_like_a_method_is_the_column(folder: Path, name: str) -> None:
    assert rendered(folder, f"{{{{ row.{name} }}}}", row={name: "mine"}) == "mine"


def test_a_method_of_a_mapping_can_be_called(folder: Path) -> None:
    text = "{% for k, v in row.items() %}{{ k }}={{ v }};{% endfor %}"
    assert rendered(folder, text, row={"a": 1, "b": 2}) == "a=1;b=2;"


def test_a_method_of_a_mapping_is_never_printed(folder: Path) -> None:
    with pytest.raises(UndefinedError, match="items"):
        rendered(folder, "{{ row.items }}", row={"a": 1})


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
def test_the_sandbox_lets_nothing_out_and_changes_nothing(folder: Path, text: str) -> None:
    row = {"a": 1}
    with pytest.raises(RENDER_ERRORS):
        rendered(folder, text, row=row)
    assert row == {"a": 1}


@pytest.mark.parametrize(
    "text", ["{{ 'a' * 1000000000 }}", "{{ [0] * 1000000000 }}", "{{ 9 ** 999999999 }}"]
)
def test_a_text_without_end_is_refused_before_it_is_made(folder: Path, text: str) -> None:
    with pytest.raises(SecurityError):
        rendered(folder, text)


def test_a_loop_that_writes_too_much_is_cut(folder: Path) -> None:
    text = (
        "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxx{% endfor %}{% endfor %}"
    )
    with pytest.raises(SecurityError, match="longer than"):
        rendered(folder, text)


def test_data_is_never_rendered_as_a_template(folder: Path) -> None:
    assert rendered(folder, "{{ text }}", text="{{ 7 * 7 }}") == "{{ 7 * 7 }}"


def test_includes_come_from_the_templates_folder(folder: Path) -> None:
    (folder / "tone.j2").write_text("Be {{ tone }}.")
    assert rendered(folder, "{% include 'tone.j2' %}", tone="kind") == "Be kind."


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/../../secret.txt", "link.txt"])
def test_no_include_leaves_the_templates_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    with pytest.raises(TemplateNotFound):
        rendered(folder, f"{{% include '{name}' %}}")


def test_an_expression_gives_a_value_and_not_its_text(folder: Path) -> None:
    expression = PromptEnvironment(folder).expression("labels[:1] + [stars > 3]")
    assert expression({"labels": ["a", "b"], "stars": 5}) == ["a", True]


def test_an_expression_without_its_name_raises_when_it_is_judged(folder: Path) -> None:
    expression = PromptEnvironment(folder).expression("missing > 3")
    with pytest.raises(TemplateError):
        expression({})
