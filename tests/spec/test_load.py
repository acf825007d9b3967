from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gptflow
from gptflow.errors import SpecError, UsageError
from gptflow.spec.load import MAX_BYTES, read_spec
from gptflow.spec.model import Spec
from gptflow.spec.problems import Problem
from tests.project import loaded

Problems = Callable[..., list[Problem]]
Load = Callable[..., Spec]

GUIDE = """\
# yaml-language-server: $schema=../schemas/pipeline.schema.json
name: review-sentiment
vars: {labels: [positive, negative, neutral]}
source:
  path: data/reviews.jsonl
  id: review_id
  where: lang == "en"
  limit: 1000
  sample: {n: 100, seed: 7}
model:
  name: gpt-4o-mini
  temperature: 0
templates: prompts
steps:
  - name: label
    system: You label product reviews.
    prompt: |
      Label this review as one of {{ labels | join(", ") }}.
      Review: {{ text }}
    examples: [{user: "...", assistant: "..."}]
    extract:
      label: {json: label, one_of: "{{ labels }}"}
      reason: {json: reason}
    on_invalid: {reask: 2, then: fail}
  - name: apology
    when: label == "negative"
    prompt: Write a one-sentence apology to this customer.
    model: {name: gpt-4o, max_tokens: 80}
    extract: {apology: text, words: {regex: "(\\\\w+)", all: true}, tone: {one_of: [warm, cold]}}
parallelism: {mode: async, concurrency: auto}
limits: {timeout_s: 120, attempts: 8}
output: {path: out/labels.jsonl, columns: [review_id, label, reason, apology]}
"""

NINE_MISTAKES = """\
name: review sentiment
source: {path: data/review.jsonl}
model: {name: gpt-4o-mini, max_token: 80, temperature: hot}
steps:
  - name: label
    promt: |
      Review: {{ text }} of ${SHOP}
    extract: {label: {json: label}, label: text}
  - name: label
    prompt: Thanks!
limits: {attempts: many}
"""

NINE_MISTAKES_SHOWN = """\
label.yaml:1:7: 'review sentiment' cannot be the name
    1 | name: review sentiment
      |       ^^^^^^^^^^^^^^^^
Hint: Names the store and its runs: letters, digits, dots, dashes, underscores.

label.yaml:2:16: there is no file 'data/review.jsonl'
    2 | source: {path: data/review.jsonl}
      |                ^^^^^^^^^^^^^^^^^
Hint: did you mean 'data/reviews.jsonl'?

label.yaml:3:28: the API has no parameter 'max_token'
    3 | model: {name: gpt-4o-mini, max_token: 80, temperature: hot}
      |                            ^^^^^^^^^
Hint: did you mean 'max_tokens'? model.extra_body passes anything else through

label.yaml:3:56: expected a number from 0 to 2, found 'hot'
    3 | model: {name: gpt-4o-mini, max_token: 80, temperature: hot}
      |                                                        ^^^
Hint: temperature: What sampling temperature to use, between 0 and 2

label.yaml:6:5: unknown key 'promt'
    6 |     promt: |
      |     ^^^^^
Hint: did you mean 'prompt'?

label.yaml:7:29: the environment has no variable SHOP
    7 |       Review: {{ text }} of ${SHOP}
      |                             ^^^^^^^
Hint: export SHOP=...; to keep the text as it is, write $${SHOP}

label.yaml:8:37: the key 'label' stands here a second time, first in line 8
    8 |     extract: {label: {json: label}, label: text}
      |                                     ^^^^^
Hint: remove or rename one of them

label.yaml:9:11: two steps are named 'label', the first in line 5
    9 |   - name: label
      |           ^^^^^
Hint: rename one of them

label.yaml:11:20: expected a whole number of at least 1, found 'many'
   11 | limits: {attempts: many}
      |                    ^^^^
Hint: Attempts of one call before its row fails.

9 problems; nothing was sent."""


def test_the_guides_spec_is_read(load: Load) -> None:
    spec = load(GUIDE)
    assert spec.source.id_columns == ("review_id",)
    assert [step.name for step in spec.steps] == ["label", "apology"]
    assert list(spec.steps[1].extract) == ["apology", "words", "tone"]


def test_nine_mistakes_of_nine_kinds_are_told_at_once(problems: Problems) -> None:
    assert str(SpecError(problems(NINE_MISTAKES))) == NINE_MISTAKES_SHOWN


def test_loading_a_spec_with_problems_raises_them_all(minimal: str, folder: Path) -> None:
    path = folder / "label.yaml"
    path.write_text(minimal + "x: 1\ny: 2\n")
    with pytest.raises(SpecError) as raised:
        gptflow.load_spec(path)
    assert [problem.message for problem in raised.value.problems] == [
        "unknown key 'x'",
        "unknown key 'y'",
    ]
    assert raised.value.exit_code == 2
    assert f"{path}:7:1" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("just text", "expected a mapping, found 'just text'"),
        ("- a\n- b\n", "expected a mapping, found a list"),
        ("a: 1\n---\nb: 1\n", "a second document begins here"),
        (b"name: caf\xe9\n", "this is not UTF-8"),
        (b"name: a\x00b\n", "the character U+0000 is not allowed in YAML"),
        (b"x: " + b"y" * MAX_BYTES, "larger than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_spec_is_one_problem(
    text: str | bytes, message: str, problems: Problems
) -> None:
    (problem,) = problems(text)
    assert problem.message == message
    assert problem.hint


def test_the_place_of_a_byte_that_is_no_utf8_is_told(problems: Problems) -> None:
    (problem,) = problems("name: x\nvars: {a: é".encode() + b"\xff}\n")
    assert str(problem.place) == "label.yaml:2:12"


@pytest.mark.parametrize(
    "encode",
    [lambda text: text.encode("utf-8-sig"), lambda text: text.replace("\n", "\r\n").encode()],
)
def test_files_of_windows_are_read(
    encode: Callable[[str], bytes], problems: Problems, minimal: str
) -> None:
    assert problems(encode(minimal)) == []
    (problem,) = problems(encode(minimal + "limit: 3\n"))
    assert str(problem.place) == "label.yaml:7:1"
    assert problem.place.text == "limit: 3"


def test_a_missing_file_is_told_with_the_one_that_may_be_meant(folder: Path) -> None:
    (folder / "label.yaml").touch()
    with pytest.raises(UsageError, match=r"no file lable.yaml\nHint: did you mean label.yaml\?"):
        gptflow.load_spec("lable.yaml")


@pytest.mark.parametrize("path", ["nowhere/x.yaml", "data", "x" * 300, "a\0b"])
def test_what_is_no_file_is_told_kindly(path: str) -> None:
    with pytest.raises(UsageError):
        gptflow.load_spec(path)


def test_a_spec_travels_to_other_processes_with_its_places(load: Load) -> None:
    spec = load(GUIDE)
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec
    assert copy.folder == spec.folder
    assert str(copy.origin.place(("steps", 1, "when"))) == "label.yaml:26:11"
    assert copy.origin.text == GUIDE


def test_the_environment_is_the_processs_own_if_none_is_given(
    minimal: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_NAME", "nightly")
    (folder / "label.yaml").write_text(minimal.replace("tiny", "${RUN_NAME}"))
    assert loaded("label.yaml").name == "nightly"


def test_validating_imports_no_heavy_package(minimal: str, folder: Path) -> None:
    (folder / "label.yaml").write_text(minimal)
    script = (
        "import sys; from gptflow.spec.load import read_spec; read_spec('label.yaml');"
        "print({'openai', 'jsonschema', 'jinja2', 'asyncio', 'rich'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


words = st.sampled_from(
    [
        *("name", "source", "path", "range", "rows", "limit", "sample", "n", "id", "model"),
        *("temperature", "max_tokens", "extra_body", "steps", "prompt", "system", "examples"),
        *("file", "when", "extract", "text", "regex", "json", "schema", "choice", "one_of"),
        *("type", "on_invalid", "reask", "limits", "attempts", "output", "columns", "vars"),
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | words
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=15,
)
PROPERTY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the folder may be shared
    deadline=None,
    max_examples=50,
)


@PROPERTY
@given(text=st.text() | st.binary() | st.text("{}[]:,-?&*!|>'\"%@`#$ \n\tab1"))
def test_any_file_gives_a_spec_or_problems(text: str | bytes, problems: Problems) -> None:
    for problem in problems(text if isinstance(text, bytes) else text.encode(errors="replace")):
        assert problem.render()


@PROPERTY
@given(data=st.dictionaries(words, trees))
def test_any_mapping_of_the_languages_words_gives_a_spec_or_problems(
    data: dict[str, object], folder: Path
) -> None:
    path = folder / "label.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    draft = read_spec(path, environ={})
    assert draft.problems
    for problem in draft.problems:
        assert problem.place.line <= path.read_text(encoding="utf-8").count("\n") + 1
        assert problem.render()
