from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gptflow.pipeline.compile import compile_plan
from gptflow.pipeline.conversation import converse
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Row
from tests.project import loaded

SPEC = """\
name: reviews
vars: {labels: [positive, negative], tone: kind}
source: {path: rows.jsonl}
model: {name: gpt-4o-mini, temperature: 0, max_tokens: 5}
templates: prompts
steps:
  - name: label
    system: "{% include 'tone.j2' %}"
    examples: {file: few.jsonl}
    prompt: {file: label.j2}
    extract: {label: {choice: "{{ labels }}"}, about: {schema: {file: about.json}}}
  - name: apology
    when: label == 'negative'
    prompt: Apologise.
    extract: {apology: text}
    on_invalid: {reask: 1, then: fail}
parallelism: {concurrency: 4}
limits: {attempts: 3}
output: {path: out.jsonl}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/tone.j2").write_text("Be {{ tone }}.")
    (tmp_path / "prompts/few.jsonl").write_text('{"user": "fine", "assistant": "positive"}\n')
    (tmp_path / "prompts/label.j2").write_text("Label {{ text }}.")
    (tmp_path / "about.json").write_text('{"type": "array"}')
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n')
    (tmp_path / "more.jsonl").write_text('{"text": "bad"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(text: str = SPEC, server: str = "") -> Plan:
    Path("spec.yaml").write_text(text)
    return compile_plan(loaded("spec.yaml"), columns=["text"], server=server)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: reviews", "name: other"),
        ("rows.jsonl", "more.jsonl"),
        ("rows.jsonl}", "rows.jsonl, limit: 3, where: text}"),
        ("out.jsonl", "other.csv"),
        ("concurrency: 4", "concurrency: 40"),
        ("attempts: 3", "attempts: 30, timeout_s: 5"),
        ("max_tokens: 5}", "max_tokens: 5} # five"),
        ("temperature: 0, max_tokens: 5", "max_tokens: 5, temperature: 0"),
        ("prompt: Apologise.", "prompt: 'Apologise.'"),
        ("{reask: 1, then: fail}", "{reask: 1}"),
    ],
)
def test_what_does_not_matter_to_a_row_leaves_the_digest(old: str, new: str) -> None:
    assert old in SPEC
    assert plan(SPEC.replace(old, new)).digest == plan().digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tone: kind", "tone: stern"),
        ("labels: [positive, negative], tone: kind", "tone: kind, labels: [positive, negative]"),
        ("[positive, negative]", "[negative, positive]"),
        ("prompt: Apologise.", "prompt: Apologise!"),
        ("gpt-4o-mini", "gpt-4o"),
        ("max_tokens: 5", "max_tokens: 6"),
        ("max_tokens: 5", "max_tokens: 5, extra_body: {top_k: 1}"),
        ("when: label == 'negative'", "when: label == 'positive'"),
        ("{apology: text}", "{apology: {regex: '.+'}}"),
        ("{apology: text}", "{sorry: text}"),
        ("{apology: text}", "{apology: {text: true, type: int}}"),
        ("reask: 1", "reask: 2"),
        ("then: fail", "then: keep"),
        ("- name: apology", "- name: regret"),
        ("rows.jsonl}", "rows.jsonl, id: text}"),
        ("    examples: {file: few.jsonl}\n", ""),
        ("    system: \"{% include 'tone.j2' %}\"\n", ""),
    ],
)
def test_what_matters_to_a_row_changes_the_digest(old: str, new: str) -> None:
    assert old in SPEC
    assert plan(SPEC.replace(old, new)).digest != plan().digest


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prompts/tone.j2", "Be very {{ tone }}."),
        ("prompts/few.jsonl", '{"user": "fine", "assistant": "negative"}\n'),
        ("prompts/label.j2", "Label this: {{ text }}."),
        ("about.json", '{"type": "string"}'),
    ],
)
def test_the_text_of_a_file_that_is_named_is_part_of_the_digest(name: str, text: str) -> None:
    before = plan().digest
    Path(name).write_text(text)
    assert plan().digest != before


@pytest.mark.parametrize("schema", ["schema: {file: about.json}", "schema: {INLINE}"])
def test_the_order_of_a_schemas_properties_is_part_of_the_digest(schema: str) -> None:
    digests = set()
    for names in (("reason", "label"), ("label", "reason")):
        properties = ", ".join(f'"{name}": {{"type": "string"}}' for name in names)
        text = f'"type": "object", "properties": {{{properties}}}'
        Path("about.json").write_text(f"{{{text}}}")
        wanted = schema.replace("INLINE", text)
        spec = SPEC.replace('label: {choice: "{{ labels }}"}, about: ', "about: ")
        spec = spec.replace("schema: {file: about.json}", wanted).replace("negative'", "x'")
        digests.add(plan(spec).digest)
    assert len(digests) == 2


def test_a_file_that_nobody_names_is_no_part_of_the_digest() -> None:
    before = plan().digest
    Path("prompts/other.j2").write_text("x")
    assert plan().digest == before


def test_an_include_with_a_computed_name_makes_the_whole_folder_part_of_the_digest() -> None:
    text = SPEC.replace("'tone.j2'", "tone ~ '.j2'")
    Path("prompts/kind.j2").write_text("Be kind.")
    before = plan(text).digest
    Path("prompts/kind.j2").write_text("Be unkind.")
    assert plan(text).digest != before


@pytest.mark.parametrize("include", ["'tone.j2'", "tone ~ '.j2'"])
def test_a_plan_says_what_the_files_said_when_it_was_compiled(include: str) -> None:
    tones = (Path("prompts/tone.j2"), Path("prompts/kind.j2"))
    tones[1].write_text("Be {{ tone }}.")
    compiled = plan(SPEC.replace("'tone.j2'", include))
    for tone in tones:
        tone.write_text("NEW")
    row = Row(0, 0, b"k" * 16, 0, b"{}", {"text": "good"})
    call = next(converse(compiled, row))
    assert isinstance(call, Call)
    assert call.messages[0]["content"] == "Be kind."


def test_the_digest_of_a_simulator_is_another() -> None:
    assert plan(server="mock").digest != plan().digest


def test_a_plan_names_its_fields_and_models_in_order() -> None:
    compiled = plan(SPEC.replace("prompt: Apologise.", "prompt: x\n    model: {name: gpt-4o}"))
    assert compiled.fields == ("label", "about", "apology")
    assert compiled.models == ("gpt-4o-mini", "gpt-4o")
    assert compiled.steps[1].params == {"temperature": 0, "max_tokens": 5}


def test_structured_sends_the_schema_with_the_call() -> None:
    step = plan(SPEC.replace("prompt: {file: label.j2}", "prompt: x\n    structured: true")).steps[
        0
    ]
    assert step.params["response_format"]["json_schema"]["schema"] == {"type": "array"}


def test_a_plan_travels_by_pickle() -> None:
    sent = plan()
    arrived: Plan = pickle.loads(pickle.dumps(sent))
    assert (arrived.digest, arrived.fields) == (sent.digest, sent.fields)
    row = Row(0, 0, b"k" * 16, 0, b"{}", {"text": "good"})
    assert next(converse(arrived, row)) == next(converse(sent, row))


def edited(folder: Path) -> None:
    """Every file of the spec says something else, and there are more of them."""
    for path in (*folder.glob("prompts/*"), folder / "about.json"):
        path.write_text("{{ nothing like it }} {%")
    (folder / "prompts/more.j2").write_text("More.")


def deleted(folder: Path) -> None:
    """Nothing is left where the spec was, as on another machine."""
    shutil.rmtree(folder)


def led_elsewhere(folder: Path) -> None:
    """The folder of the templates is a link to others."""
    (folder / "prompts").rename(folder / "templates")
    (folder / "others").mkdir()
    (folder / "prompts").symlink_to(folder / "others")


@pytest.mark.parametrize("change", [edited, deleted, led_elsewhere])
@pytest.mark.parametrize(
    "include",
    ["include 'tone.j2'", "include tone ~ '.j2'", "import 'tone.j2' as tones with context"],
)
def test_a_plan_that_travels_brings_its_files_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], include: str
) -> None:
    Path("prompts/tone.j2").write_text("Be {% include './kind.j2' %}.")
    Path("prompts/kind.j2").write_text("{{ tone or 'kind' }}")
    text = SPEC.replace("include 'tone.j2'", include)
    sent = plan(text)
    row = Row(0, 0, b"k" * 16, 0, b"{}", {"text": "good"})
    asked = next(converse(sent, row))
    travelling = pickle.dumps(sent)
    monkeypatch.chdir("/")
    change(folder)
    arrived: Plan = pickle.loads(travelling)
    assert next(converse(arrived, row)) == asked
    assert arrived.digest == sent.digest
    onwards: Plan = pickle.loads(pickle.dumps(arrived))
    assert onwards.digest == sent.digest
