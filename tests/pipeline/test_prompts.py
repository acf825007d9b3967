from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import TemplateError, TemplateNotFound
from jinja2.exceptions import SecurityError, UndefinedError

from gptflow.pipeline.prompts import RENDER_ERRORS, PromptEnvironment, render
from gptflow.pipeline.size_limit import MAX_PROMPT_CHARS


def rendered(template: str, **names: object) -> str:
    return render(PromptEnvironment().from_string(template), names)


def test_a_template_sees_the_names_it_is_given() -> None:
    assert rendered("{{ a }} and {{ row.b }}", a=1, row={"b": 2}) == "1 and 2"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("You label\nreviews.\n", "You label\nreviews."),
        ("", ""),
        ("{# for us #}Hello", "Hello"),
        ("{{ '{{' }} is a brace", "{{ is a brace"),
        ("{% raw %}{{ a }}{% endraw %}", "{{ a }}"),
        ("{{ a }}", "1"),
    ],
)
def test_a_renderer_gives_what_rendering_gives(source: str, text: str) -> None:
    renderer = PromptEnvironment().renderer(source)
    assert renderer({"a": 1}) == rendered(source, a=1) == text


def test_a_fixed_text_that_is_too_long_fails_each_row_and_not_the_spec() -> None:
    renderer = PromptEnvironment().renderer("a" * (MAX_PROMPT_CHARS + 1))
    with pytest.raises(SecurityError, match="longer than"):
        renderer({})


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


DOUBLED = [
    "ns.x ~ ns.x",
    "ns.x + ns.x",
    "ns.x * 2",
    "'%s%s' % (ns.x, ns.x)",
    "'{0}{0}'.format(ns.x)",
    "ns.x.replace('x', 'xx')",
    "ns.x.join([ns.x, ns.x])",
    "[ns.x, ns.x] | join",
    "[ns.x, ns.x] | string",
    "[ns.x, ns.x] | map('string') | join",
    "'%s%s' | format(ns.x, ns.x)",
    "(ns.x ~ '\"') | tojson",
]


@pytest.mark.parametrize("made", DOUBLED)
def test_a_text_that_grows_in_a_loop_is_refused(made: str) -> None:
    loop = "{% for i in range(99) %}{% set ns.x = MADE %}{% endfor %}".replace("MADE", made)
    with pytest.raises(SecurityError):
        rendered("{% set ns = namespace(x='x') %}" + loop)


@pytest.mark.parametrize(
    "step",
    [
        "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}",
        "{% macro twice() %}{{ ns.x }}{{ ns.x }}{% endmacro %}{% set ns.x = twice() %}",
        "{% set ns.x = [ns.x, ns.x] %}",
    ],
)
def test_a_block_or_a_list_that_grows_in_a_loop_is_refused(step: str) -> None:
    loop = "{% for i in range(99) %}STEP{% endfor %}{{ ns.x }}".replace("STEP", step)
    with pytest.raises(SecurityError):
        rendered("{% set ns = namespace(x='x' * 999) %}" + loop)


@pytest.mark.parametrize(
    "made",
    [
        "'a' * 1000000000",
        "[0] * 1000000000",
        "9 ** 999999999",
        "9 ** 999 * 9 ** 9999",
        "'%0300000000d' % 1",
        "'%.300000000f' % 1",
        "'%*d' % (300000000, 1)",
        "'%(a(b))0300000000d' % {'a(b)': 1}",
        "'a'.ljust(400000000)",
        "'a'.rjust(width)",
        "'a'.center(400000000)",
        "'1'.zfill(400000000)",
        "'\t'.expandtabs(400000000)",
        "'a'.encode().ljust(400000000)",
        "('a' * 9999).translate({97: 'a' * 9999})",
        "'aaaa'['ljust'](400000000)",
        "(1).to_bytes(400000000, 'big')",
        "('a' * 9999).replace('', 'a' * 9999)",
        "('a' * 9999).join('a' * 9999)",
        "'{:>400000000}'.format(1)",
        "'{:>{}}'.format(1, 400000000)",
        "'{a:>400000000}'.format_map({'a': 1})",
        "(('a' | escape) ~ 'b').ljust(400000000)",
        "('{:>400000000}' | escape).format(1)",
        "[('a' * 9999999)] * 9999",
        "'a' | center(400000000)",
        "'a\nb' | indent(400000000)",
        "'a\nb' | indent(width=400000000, first=true)",
        "'%0300000000d' | format(1)",
        "('a' * 9999) | replace('a', 'a' * 9999)",
        "('a ' * 9999) | wordwrap(1, wrapstring='a' * 9999)",
        "[0] | batch(400000000, 0) | list",
        "[0] | slice(400000000) | list",
        "[0] | tojson(400000000)",
        "1 | round(400000000, 'ceil')",
        "['a'] | map('center', 400000000) | list",
        "(['a'] * 9999) | join('a' * 9999)",
        "('a b ' * 9999) | urlize(target='a' * 9999)",
    ],
)
def test_a_text_without_end_is_refused_before_it_is_made(made: str) -> None:
    with pytest.raises(SecurityError):
        rendered(f"{{{{ {made} }}}}", width=400_000_000)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        ("'%03d|%s' % (7, labels)", "007|['a', 'b']"),
        ("'{:>4}|{x!r}'.format(7, x='y')", "   7|'y'"),
        ("('<{}>' | safe).format('&')", "<&amp;>"),
        ("'{a}'.format_map({'a': 1})", "1"),
        ("labels | map('upper') | join(', ')", "A, B"),
        ("', '.join(labels | map('upper'))", "A, B"),
        ("'a' ~ 1 ~ none ~ labels", "a1None['a', 'b']"),
        ("'a\nb' | indent(2)", "a\n  b"),
        ("'aXb'.replace('X', '-') | center(7)", "  a-b  "),
        ("[1, 2, 3] | batch(2, 0) | list", "[[1, 2], [3, 0]]"),
        ("2.345 | round(1)", "2.3"),
        ("{'a': [1]} | tojson", '{"a": [1]}'),
        ("[1, 2] | sum + 3 * 4", "15"),
        ("missing | default('-')", "-"),
    ],
)
def test_what_prompts_do_is_left_as_it_is(made: str, text: str) -> None:
    assert rendered(f"{{{{ {made} }}}}", labels=["a", "b"]) == text


def test_the_length_of_a_text_may_be_asked_where_the_text_is_too_long_to_print() -> None:
    text = "a" * (MAX_PROMPT_CHARS + 1)
    assert rendered("{{ text | length }} {{ text | count }}", text=text) == "20000001 20000001"


def test_a_loop_that_writes_too_much_is_cut() -> None:
    text = (
        "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxx{% endfor %}{% endfor %}"
    )
    with pytest.raises(SecurityError, match="longer than"):
        rendered(text)


def test_a_loop_that_fills_the_memory_with_nothing_is_cut() -> None:
    text = (
        "{% for i in range(99999) %}{% for j in range(30) %}{{ nothing }}{% endfor %}{% endfor %}"
    )
    with pytest.raises(SecurityError, match=r"longer than|more than 5 s"):
        rendered(f"{{% set x %}}{text}{{% endset %}}", nothing="")


@pytest.mark.parametrize("value", ["labels | map('upper')", "tone.upper", "tone.format"])
def test_what_prints_as_another_address_each_time_is_never_printed(value: str) -> None:
    for text in ("{{ VALUE }}", "{{ 'a' ~ (VALUE) }}"):
        with pytest.raises(TemplateError, match="prints as an address"):
            rendered(text.replace("VALUE", value), labels=["a"], tone="kind")


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
