from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gptflow.spec.node import Sheet, data_of
from gptflow.spec.parameters import PARAMETERS_FILE
from gptflow.spec.schema import SCHEMA_FILE, as_text, generated_parameters, pipeline_schema
from gptflow.spec.yaml12 import read_yaml

REPOSITORY = Path(__file__).parents[2]

GUIDE = """\
name: review-sentiment
vars: {labels: [positive, negative]}
source: {path: data/reviews.jsonl, id: review_id, sample: {n: 100}}
model: {name: gpt-4o-mini, temperature: 0, extra_body: {top_k: 1}}
steps:
  - name: label
    system: {file: system.txt}
    prompt: "Label {{ text }}"
    examples: [{user: a, assistant: b}]
    extract:
      label: {json: label, one_of: "{{ labels }}"}
      whole: text
      words: {regex: "\\\\w+", all: true, type: integer}
      tone: {one_of: [warm, cold]}
      mood: {choice: [good, bad]}
      parts: {schema: {type: array}}
    on_invalid: {reask: 2, then: keep}
parallelism: {concurrency: auto}
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return pipeline_schema()


def errors(schema: dict[str, Any], text: str) -> list[str]:
    node, _ = read_yaml(Sheet("f", text))
    assert node is not None
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(data_of(node))]


def test_the_schema_in_the_repository_is_fresh(schema: dict[str, Any]) -> None:
    text = (REPOSITORY / SCHEMA_FILE).read_text(encoding="utf-8")
    assert text == as_text(schema), "run `make schema`"


def test_the_parameters_are_those_of_the_openai_package() -> None:
    text = PARAMETERS_FILE.read_text(encoding="utf-8")
    if json.loads(text)["openai"] != importlib.metadata.version("openai"):
        pytest.skip("another openai package is installed: run `make schema` to follow it")
    assert text == as_text(generated_parameters()), "run `make schema`"


def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "A gptflow pipeline"


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in [("Spec", schema), *schema["$defs"].items()]:
        yield name, definition
        for key, fragment in definition["properties"].items():
            yield f"{name}.{key}", fragment


def test_every_key_has_a_description(schema: dict[str, Any]) -> None:
    described = ("description", "$ref")  # a reference brings the words of what it points to
    assert [name for name, part in properties(schema) if not part.keys() & set(described)] == []


def test_the_guides_spec_is_valid(schema: dict[str, Any]) -> None:
    assert errors(schema, GUIDE) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("name: review", "nam: review"),
        ("review-sentiment", "review sentiment"),
        ("n: 100", "n: 0"),
        ("temperature: 0", "temperature: hot"),
        ("temperature: 0", "max_token: 1"),
        ("whole: text", "whole: txt"),
        ("tone: {", "tone: {json: a, regex: b, "),
        ("one_of: [warm, cold]", "type: str"),
        ("whole: text", "1st: text"),
        ("then: keep", "then: keeep"),
        ("concurrency: auto", "concurrency: lots"),
        ("file: system.txt", "fil: system.txt"),
    ],
)
def test_an_editor_marks_mistakes(right: str, wrong: str, schema: dict[str, Any]) -> None:
    assert right in GUIDE
    assert errors(schema, GUIDE.replace(right, wrong, 1))


def test_an_editor_completes_the_parameters_of_the_api(schema: dict[str, Any]) -> None:
    model = schema["$defs"]["ModelSpec"]["properties"]
    assert {"name", "extra_body", "temperature", "max_tokens", "seed", "top_p"} <= model.keys()
    assert not {"messages", "model", "stream", "n"} & model.keys()
