from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from gptflow.pipeline.extract.example import example_reply
from gptflow.pipeline.extract.extractor import Extractor, build, extract_all
from gptflow.spec.extractor import AnyExtractor

SPEC: TypeAdapter[AnyExtractor] = TypeAdapter(AnyExtractor)
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 20},
        "children": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["name"],
}
WIDE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "even": {"type": "integer", "multipleOf": 2, "exclusiveMinimum": 6},
        "share": {"type": "number", "exclusiveMinimum": 0.1, "exclusiveMaximum": 0.2},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"},
        "kind": {"anyOf": [{"const": "a"}, {"enum": ["b", "c"]}]},
        "pair": {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}]},
        "three": {"type": "array", "items": {"type": "string"}, "minItems": 3},
        "maybe": {"type": ["null", "string"]},
        "both": {"allOf": [{"type": "object", "properties": {"x": {"type": "number"}}}]},
        "word": {"type": "string", "maxLength": 4},
        "below": {"type": "integer", "maximum": -3},
    },
}
WIDE["required"] = list(WIDE["properties"])

STEPS: list[dict[str, dict[str, Any]]] = [
    {"a": {"text": True}},
    {"a": {"text": True, "type": "float"}},
    {"a": {"json": "label", "one_of": ["x", "y"]}, "b": {"json": "reason"}},
    {"a": {"json": "a"}, "b": {"json": "a.b[1].c", "type": "int"}, "c": {"json": "a.b[-1].d"}},
    {"a": {"json": "$", "type": "list"}},
    {"a": {"json": "tags[*].n", "type": "bool"}, "b": {"json": "tags", "type": "list"}},
    {"a": {"json": "label", "one_of": ["x", "y"]}, "b": {"text": True}},
    {"a": {"schema": TREE}},
    {"a": {"schema": WIDE}, "b": {"json": "extra", "type": "dict"}},
    {"a": {"choice": ["positive", "very positive"]}},
    {"a": {"choice": ["yes", "no"]}, "b": {"json": "reason"}, "c": {"regex": r"Score: (\d+)"}},
    {
        "a": {
            "regex": r"^(?:Label|Answer)\s*:\s*(?P<x>\w+)\.?$",
            "one_of": ["good", "bad"],
            "flags": "m",
        }
    },
    {"a": {"regex": r"[A-Z][a-z]{3,}", "all": True}},
    {"a": {"regex": r"<b>(.*?)</b>", "type": "int"}},
    {"a": {"regex": r"(?i)(['\"])(\w+)\1(?=;)", "group": 2}},
    {"a": {"regex": r"\p{Han}+"}},
    {"a": {"regex": r"(?:a|b)(?#note)c{2,3}[^\d\s]\\n\n"}},
]


def extractors(step: dict[str, dict[str, Any]]) -> list[Extractor]:
    return [
        build(name, SPEC.validate_python(spec), spec.get("choice", spec.get("one_of")))
        for name, spec in step.items()
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("pick", [0, 1, 7, 10**9])
def test_an_example_is_accepted_by_all_extractors_of_the_step(
    step: dict[str, dict[str, Any]], pick: int
) -> None:
    built = extractors(step)
    reply = example_reply(built, pick)
    assert reply is not None
    assert extract_all(built, reply)
    assert example_reply(built, pick) == reply


def test_picks_go_through_the_labels() -> None:
    built = extractors({"label": {"choice": ["a", "b", "c"]}})
    assert [example_reply(built, pick) for pick in range(4)] == ["a", "b", "c", "a"]


def test_what_cannot_be_made_is_none() -> None:
    step: dict[str, dict[str, Any]] = {"a": {"text": True, "one_of": ["x"]}, "b": {"json": "a"}}
    assert example_reply(extractors(step), 0) is None
    assert example_reply(extractors({"a": {"regex": "(?!)"}}), 0) is None


def test_a_step_without_extractors_has_an_example_too() -> None:
    assert example_reply([], 3) == "Example reply 3."
