"""Marks show where a problem must be found: in `{{ «txet» }}` the marked text is underlined."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gptflow.errors import SpecError
from gptflow.pipeline.compile import compile_plan
from gptflow.runner.prepare import prepare
from gptflow.spec.load import read_spec
from gptflow.spec.problems import Problem

COLUMNS = ("id", "text", "stars")
HEAD = """\
name: reviews
vars: {labels: [positive, negative], tone: kind}
source: {path: rows.jsonl}
model: {name: gpt-4o-mini}
templates: prompts
steps:
  - name: label
"""
MARKS = re.compile("[«»]")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "good", "stars": 5}\n')
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def underlined(problem: Problem) -> str:
    start = problem.place.column - 1
    return problem.place.text[start : start + problem.place.length]


def problems_of(text: str, columns: tuple[str, ...] | None = COLUMNS) -> list[Problem]:
    Path("spec.yaml").write_text(MARKS.sub("", text), encoding="utf-8")
    draft = read_spec("spec.yaml", environ={})
    assert draft.spec is not None
    try:
        compile_plan(draft.spec, columns=columns, known=draft.problems)
    except SpecError as error:
        return list(error.problems)
    return []


def marked(text: str) -> list[tuple[int, int, str]]:
    """Line, column and text of all that is marked."""
    return [
        (number, len(MARKS.sub("", line[: mark.start()])) + 1, mark[1])
        for number, line in enumerate(text.split("\n"), start=1)
        for mark in re.finditer("«(.*?)»", line)
    ]


def check(text: str, file: str = "spec.yaml", marks_in: str | None = None) -> Problem:
    """The one problem of a spec, which must be where the mark is: in the spec, or `marks_in`."""
    (problem,) = problems_of(text)
    place = problem.place
    found = (place.line, place.column, underlined(problem))
    assert (place.file, [found]) == (file, marked(text if marks_in is None else marks_in))
    return problem


def step(text: str) -> str:
    """A spec with one step, of which `text` is all but the name."""
    return HEAD + "".join(f"    {line}\n" for line in text.split("\n"))


OF_PROMPT = "(prompt of step 'label')"
HAS_TEXT = "the source has id, text, stars. Did you mean 'text'?"


@pytest.mark.parametrize(
    ("prompt", "message", "hint"),
    [
        ("{{ «txet» }}", "no column, field or var is named 'txet'", HAS_TEXT),
        ("{{ «zzz» }}", "no column, field or var is named 'zzz'", "the source has id, text, stars"),
        ("{{ text | «jion» }}", "there is no filter 'jion'", "did you mean 'join'?"),
        ("{% if id is «evne» %}{% endif %}", "there is no test 'evne'", "did you mean 'even'?"),
        ("{{ row.«txet» }}", "row has no 'txet'", "it has id, stars, text. Did you mean 'text'?"),
        ("{{ vars.«tune» }}", "vars has no 'tune'", "it has labels, tone. Did you mean 'tone'?"),
        ("{{ steps.«label».reply }}", "steps has no 'label'", "it has nothing"),
        ("{{ steps['«label»'] }}", "steps has no 'label'", "it has nothing"),
    ],
)
def test_an_unknown_name_is_underlined(prompt: str, message: str, hint: str) -> None:
    problem = check(step(f'prompt: "Label {prompt}."'))
    assert (problem.message, problem.hint) == (f"{message} {OF_PROMPT}", hint)


def test_a_filter_that_makes_another_prompt_each_time_is_refused() -> None:
    problem = check(step("prompt: '{{ labels | «random» }}'"))
    assert "random" in problem.message
    assert problem.hint is not None
    assert "the same each time" in problem.hint


def test_a_filter_that_is_like_none_points_at_the_documentation() -> None:
    problem = check(step("prompt: '{{ text | «qqqqqq» }}'"))
    assert "template designer documentation" in (problem.hint or "")


def test_a_name_in_a_block_of_text_is_underlined_in_its_line() -> None:
    check(step("prompt: |\n  Label this review\n  of {{ text }}:\n\n    {{ «txet» }}\n  Thanks."))


def test_every_name_of_a_template_is_reported_at_once() -> None:
    text = step("prompt: '{{ «a» }} {{ text | «b» }} {{ row.«c» }}'")
    found = [(p.place.line, p.place.column, underlined(p)) for p in problems_of(text)]
    assert found == marked(text)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("Label «{{ text»", "unexpected end of template, expected 'end of print statement'"),
        ("Label {{ text «!» }}", "unexpected char '!' at 14"),
        ("Label {% «fi» text %}", "encountered unknown tag 'fi'"),
        ("Label {{ text «}»", "unexpected '}'"),
        (
            "Id {{ id }} {% if text «=» 1 %}x{% endif %}",
            "expected token 'end of statement block', got '='",
        ),
    ],
)
def test_template_syntax_is_underlined_at_its_token(prompt: str, message: str) -> None:
    problem = check(step(f"prompt: {prompt}"))
    assert problem.message == f"{message} {OF_PROMPT}"


def test_template_syntax_in_a_block_is_found_in_its_line() -> None:
    problem = check(step("prompt: |\n  Label\n  «{% if text %}»\n  no end"))
    assert "'if'" in problem.message


def test_a_column_that_only_the_data_lacks_is_no_problem_when_nobody_knows_the_data() -> None:
    assert problems_of(step("prompt: '{{ anything }}'"), columns=None) == []


def test_fields_of_earlier_steps_are_known_and_those_of_later_ones_are_not() -> None:
    text = step("prompt: '{{ «later» }}'\nextract: {sooner: text}")
    text += "  - name: two\n    prompt: '{{ sooner }}{{ steps.label.fields.sooner }}'\n"
    check(text + "    extract: {later: text}\n")


# ------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("use", "message", "hint"),
    [
        ("«repyl»", "steps.label has no 'repyl'", "it has fields, reply. Did you mean 'reply'?"),
        ("fields.«lable»", "steps.label.fields has no 'lable'", "Did you mean 'label'?"),
    ],
)
def test_what_a_step_does_not_have_is_underlined(use: str, message: str, hint: str) -> None:
    first = step("prompt: x\nextract: {label: text}")
    problem = check(f"{first}  - name: second\n    prompt: '{{{{ steps.label.{use} }}}}'\n")
    assert problem.message.startswith(message)
    assert (problem.hint or "").endswith(hint)


@pytest.mark.parametrize("name", ["none.j2", "../secret.txt", "/etc/passwd", "a" * 300, "link.j2"])
def test_an_include_comes_from_the_templates_folder(folder: Path, name: str) -> None:
    (folder / "prompts" / "link.j2").symlink_to(folder / "secret.txt")
    problem = check(step(f"prompt: \"{{% include '«{name}»' %}}\""))
    assert problem.message == f"no template file {name!r} in the templates folder {OF_PROMPT}"
    assert problem.hint == (
        "includes are looked up in the folder that `templates` names, and nowhere else"
    )


def test_an_include_that_is_misspelt_is_told_the_right_name(folder: Path) -> None:
    (folder / "prompts" / "tone.j2").write_text("Be kind.")
    assert check(step("prompt: '{% include \"«tune.j2»\" %}'")).hint == "did you mean 'tone.j2'?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Be\n  {{ «txet» }}!\n", "no column, field or var is named 'txet'"),
        ("Be kind.\n«{% if %}»\n", "expected an expression, got 'end of statement block'"),
    ],
)
def test_a_problem_in_an_included_file_is_found_there(
    folder: Path, content: str, message: str
) -> None:
    (folder / "prompts" / "tone.j2").write_text(MARKS.sub("", content))
    (folder / "prompts" / "between.j2").write_text("{% include 'tone.j2' %}")
    text = step("prompt: '{% include \"between.j2\" %}'")
    problem = check(text, "prompts/tone.j2", content)
    assert problem.message == f"{message} (included by the prompt of step 'label')"


def test_a_computed_include_needs_a_folder_of_templates() -> None:
    text = step("prompt: «\"{% include text ~ '.j2' %}\"»")
    assert problems_of(text) == []
    problem = check(text.replace("templates: prompts\n", ""))
    assert "needs a folder of templates" in problem.message
    assert "templates: prompts" in (problem.hint or "")


def test_a_prompt_in_a_file_is_checked_there(folder: Path) -> None:
    content = "Label this:\n{{ «txet» }}\n"
    (folder / "prompts" / "label.j2").write_text(MARKS.sub("", content))
    problem = check(step("prompt: {file: label.j2}"), "prompts/label.j2", content)
    assert problem.message == f"no column, field or var is named 'txet' {OF_PROMPT}"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("none.j2", "no file 'none.j2' in prompts/", "it is looked up in {folder}/prompts"),
        ("lable.j2", "no file 'lable.j2' in prompts/", "did you mean 'label.j2'?"),
        ("../secret.txt", "'../secret.txt' lies outside of prompts/", None),
        ("/etc/passwd", "'/etc/passwd' lies outside of prompts/", None),
        ("link.j2", "'link.j2' lies outside of prompts/", None),
        ("latin.j2", "'latin.j2' is not UTF-8: byte 3", "save the file in the encoding UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_underlined(
    folder: Path, name: str, message: str, hint: str | None
) -> None:
    (folder / "prompts" / "label.j2").write_text("")
    (folder / "prompts" / "latin.j2").write_bytes("café".encode("latin-1"))
    (folder / "prompts" / "link.j2").symlink_to(folder / "secret.txt")
    problem = check(step(f"prompt: {{file: «{name}»}}"))
    assert problem.message == f"{message} {OF_PROMPT}"
    assert problem.hint == (hint and hint.format(folder=folder))


@pytest.mark.parametrize(("key", "rest"), [("system", "\nprompt: x"), ("examples", "\nprompt: x")])
def test_system_and_examples_may_name_a_file_too(key: str, rest: str) -> None:
    problem = check(step(f"{key}: {{file: «none.j2»}}{rest}"))
    assert problem.message == f"no file 'none.j2' in prompts/ ({key} of step 'label')"


def test_a_name_that_no_file_can_have_is_a_problem_and_no_crash() -> None:
    (problem,) = problems_of(step('prompt: {file: "a\\0b"}'))
    assert "'a\\x00b' cannot be read" in problem.message
    (problem,) = problems_of(step(f"prompt: {{file: {'a' * 300}}}"))
    assert "File name too long" in problem.message


# ------------------------------------------------------------------ examples


def test_examples_are_templates_placed_in_the_spec() -> None:
    text = step('examples: [{user: "{{ text }}", assistant: "{{ «lable» }}"}]\nprompt: x')
    assert check(text).message.endswith("'lable' (example 1 of step 'label')")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('«{"user": "a"}»', "object missing required field `assistant`"),
        ("«nonsense»", "JSON is malformed"),
        ('«["a", "b"]»', "expected `object`, got `array`"),
        ('«{"user": "a", "assistant": 1}»', "expected `str`, got `int`"),
        ('«{"user": "a", "assistant": "b", "system": "c"}»', "object contains unknown field"),
    ],
)
def test_a_line_of_an_examples_file_that_is_no_example(
    folder: Path, line: str, reason: str
) -> None:
    content = f'{{"user": "a", "assistant": "b"}}\n\n{line}\n'
    (folder / "prompts" / "few.jsonl").write_text(MARKS.sub("", content))
    text = step("examples: {file: few.jsonl}\nprompt: x")
    problem = check(text, "prompts/few.jsonl", content)
    assert problem.message.startswith(f"this is no example: {reason}")
    assert problem.hint == 'a line reads {"user": "...", "assistant": "..."}'


def test_a_template_in_an_examples_file_is_placed_to_its_line(folder: Path) -> None:
    line = '«{"user": "{{ txet }}", "assistant": "b"}»'
    (folder / "prompts" / "few.jsonl").write_text(MARKS.sub("", line))
    text = step("examples: {file: few.jsonl}\nprompt: x")
    problem = check(text, "prompts/few.jsonl", line)
    assert problem.message == "no column, field or var is named 'txet' (example 1 of step 'label')"


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("text", "message", "kind"),
    [
        (step("prompt: x\nextract: {«id»: text}"), "'id' has the name of a column", "field"),
        (step("prompt: x\nextract: {«tone»: text}"), "'tone' has the name of a var", "field"),
        (step("prompt: x").replace("tone:", "«id»:"), "'id' has the name of a column", "var"),
    ],
)
def test_a_name_that_two_things_bear(text: str, message: str, kind: str) -> None:
    problem = check(text)
    assert problem.message.startswith(f"{kind} {message}")
    assert problem.hint == f"give the {kind} another name"


def test_a_column_named_like_a_namespace_is_reported() -> None:
    (problem,) = problems_of(step("prompt: x"), columns=(*COLUMNS, "steps"))
    assert problem.message.startswith("the source has a column 'steps'")
    assert problem.hint == "templates see the column as row.steps; rename it in the data"


@pytest.mark.parametrize(("ids", "missing"), [("«ident»", "ident"), ("«[id, ident]»", "ident")])
def test_an_id_column_that_the_source_lacks(ids: str, missing: str) -> None:
    problem = check(step("prompt: x").replace("rows.jsonl", f"rows.jsonl, id: {ids}"))
    assert problem.message == f"the source has no column {missing!r} (source.id)"
    assert problem.hint == "it has id, text, stars"


SPREADING = "{schema: {type: object, properties: {%s: {type: string}}}}"


@pytest.mark.parametrize(
    ("extract", "message"),
    [
        (f"{{«answer»: {SPREADING % 'text'}}}", "field 'text' has the name of a column"),
        (f"{{«answer»: {SPREADING % 'tone'}}}", "field 'tone' has the name of a var"),
        (f"{{a: text, «answer»: {SPREADING % 'a'}}}", "field 'a' has the name of another field"),
        (f"{{answer: {SPREADING % 'a'}, «a»: text}}", "field 'a' has the name of a field of 'ans"),
        (f"{{«answer»: {SPREADING % 'row'}}}", "the schema of 'answer' gives a field 'row'"),
    ],
)
def test_the_properties_of_a_schema_are_fields_with_names_of_their_own(
    extract: str, message: str
) -> None:
    assert check(step(f"prompt: x\nextract: {extract}")).message.startswith(message)


def test_a_field_may_bear_its_extractors_name() -> None:
    assert problems_of(step(f"prompt: x\nextract: {{answer: {SPREADING % 'answer'}}}")) == []


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        ("[text, «lable»]", "did you mean 'label'?"),
        ("[label, «zzzzz», id]", "there are id, text, stars, label"),
    ],
)
def test_the_columns_of_the_output_are_columns_or_fields(columns: str, hint: str) -> None:
    text = step("prompt: x\nextract: {label: text}")
    problem = check(f"{text}output: {{columns: {columns}}}\n")
    assert problem.message.startswith("no column or field is named")
    assert problem.hint == hint


# ------------------------------------------------------------------ expressions

EXPRESSIONS = [
    ("'«{{ text }}»'", "expected an expression without braces", "write it as in: label =="),
    ("«text ==»", "it ends too early", None),
    ("text «==»== 3", "unexpected '=='", None),
    ("«txet» == 1", "no column, field or var is named 'txet'", HAS_TEXT),
    ("text | «lenght» > 3", "there is no filter 'lenght'", "did you mean 'length'?"),
]


@pytest.mark.parametrize(("expression", "message", "hint"), EXPRESSIONS)
def test_when_is_an_expression(expression: str, message: str, hint: str | None) -> None:
    problem = check(step(f"prompt: x\nwhen: {quotes_outside(expression)}"))
    assert problem.message == f"{message} (when of step 'label')"
    assert (problem.hint or "").startswith(hint or "")


@pytest.mark.parametrize(("expression", "message", "hint"), EXPRESSIONS)
def test_where_is_an_expression(expression: str, message: str, hint: str | None) -> None:
    where = f"rows.jsonl, where: {quotes_outside(expression)}"
    problem = check(step("prompt: x").replace("rows.jsonl", where))
    assert problem.message == f"{message} (source.where)"
    assert (problem.hint or "").startswith(hint or "")


def quotes_outside(expression: str) -> str:
    """A problem with the whole of a quoted value is underlined with its quotes."""
    return expression.replace("'«", "«'").replace("»'", "'»")


def test_where_sees_no_fields() -> None:
    text = step("prompt: x\nextract: {label: text}")
    check(text.replace("rows.jsonl", "rows.jsonl, where: «label» == 1"))


# ------------------------------------------------------------------ extractors


@pytest.mark.parametrize("key", ["choice", "one_of"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("«labels»", "expected a list of labels, or a template that gives one, found 'labels'"),
        ("«'{{ tone }}'»", "expected a list of labels, found 'kind'"),
        ("«'{{ labels[9] }}'»", "nothing is at labels[9]"),
        ("«'{{ tone + labels }}'»", "the labels cannot be made: can only concatenate str"),
    ],
)
def test_labels_are_a_list_or_a_template_that_gives_one(
    key: str, labels: str, message: str
) -> None:
    problem = check(step(f"prompt: x\nextract: {{label: {{{key}: {labels}}}}}"))
    assert problem.message.startswith(message)
    assert problem.message.endswith("(field 'label')")


@pytest.mark.parametrize(
    ("labels", "message", "hint"),
    [
        ("«lables»", "no var is named 'lables'", "labels, tone. Did you mean 'labels'?"),
        ("«text»", "no var is named 'text'", "labels, tone"),
        ("labels | «srot»", "there is no filter 'srot'", "did you mean 'sort'?"),
    ],
)
def test_labels_are_made_of_vars_alone(labels: str, message: str, hint: str) -> None:
    problem = check(step(f"prompt: x\nextract: {{label: {{choice: '{{{{ {labels} }}}}'}}}}"))
    assert problem.message == f"{message} (choice of field 'label')"
    assert (problem.hint or "").endswith(hint)


@pytest.mark.parametrize(
    "extractor",
    [
        "{regex: 'a(b«'»}",
        "{regex: 'a(b)', group: «2»}",
        "{json: a«.».b}",
        "{choice: [Good, «good»]}",
        "{text: true, type: int, one_of: [1, «x»]}",
        "{schema: {type: «objekt»}}",
        "{schema: {type: object, properties: {a: {type: «strin»}}}}",
        "{schema: {file: «none.json»}}",
        "{schema: {file: «truncated.json»}}",
        "{schema: {file: «list.json»}}",
        "{schema: {file: «../outside.json»}}",
    ],
)
def test_an_extractor_that_cannot_work_is_underlined_where_it_is_wrong(
    folder: Path, extractor: str
) -> None:
    (folder / "truncated.json").write_text('{"type": ')
    (folder / "list.json").write_text("[1]")
    problem = check(step(f"prompt: x\nextract: {{label: {extractor}}}"))
    assert "field 'label'" in problem.message


def test_a_wrong_schema_in_a_file_is_told_with_the_file(folder: Path) -> None:
    (folder / "answer.json").write_text('{"type": "objekt"}')
    problem = check(step("prompt: x\nextract: {label: {schema: {file: «answer.json»}}}"))
    assert problem.message.startswith("answer.json: the JSON Schema is not valid at type")


@pytest.mark.parametrize(
    ("extract", "found"),
    [
        ("{}", "none"),
        ("{label: text}", "none"),
        ("{a: {schema: {type: array}}, b: {schema: {type: array}}}", "2"),
    ],
)
def test_structured_needs_one_schema(extract: str, found: str) -> None:
    problem = check(step(f"prompt: x\nstructured: «true»\nextract: {extract}"))
    assert problem.message == (
        f"structured needs exactly one schema extractor, step 'label' has {found}"
    )
    assert problem.hint == "give the step one field with {schema: ...}"


# ------------------------------------------------------------------ all at once


def test_all_problems_of_a_file_are_told_at_once_in_its_order() -> None:
    text = """\
name: reviews
vars: {«text»: 1}
source: {path: rows.jsonl, where: «txet»}
model: {name: m, «temprature»: 0}
steps:
  - name: label
    prompt: "{{ «revew» }}"
    extract: {label: {choice: «labels»}}
    structured: «true»
«paralelism»: {mode: async}
"""
    Path("spec.yaml").write_text(MARKS.sub("", text))
    with pytest.raises(SpecError) as caught:
        prepare("spec.yaml")
    found = [(p.place.line, p.place.column, underlined(p)) for p in caught.value.problems]
    assert found == marked(text)
