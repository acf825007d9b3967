from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gptflow.pipeline.extract.extractor import build, extract_all
from gptflow.pipeline.extract.invalid import BadExtractor, Invalid
from gptflow.pipeline.extract.schema import FromSchema
from gptflow.spec.extractor import SchemaExtractor

LABEL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "label": {"enum": ["positive", "negative"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["label"],
}


def extractor(schema: dict[str, Any], **options: Any) -> FromSchema:
    built = build("answer", SchemaExtractor(schema=schema, **options))
    assert isinstance(built, FromSchema)
    return built


def fields(schema: dict[str, Any], reply: object, **options: Any) -> dict[str, Any]:
    text = reply if isinstance(reply, str) else json.dumps(reply)
    return extract_all([extractor(schema, **options)], text)


def test_the_properties_of_an_object_become_fields() -> None:
    reply = {"score": 0.5, "label": "positive", "extra": 1}
    assert fields(LABEL, reply) == {"label": "positive", "score": 0.5}
    assert extractor(LABEL).fields == ("label", "score")


def test_a_property_that_need_not_be_there_is_null() -> None:
    assert fields(LABEL, {"label": "positive"}) == {"label": "positive", "score": None}


def test_the_object_is_found_in_prose_after_a_citation() -> None:
    assert fields(LABEL, 'As [1] says: {"label": "negative"}')["label"] == "negative"


def test_any_other_schema_is_one_field_with_the_name_of_the_extractor() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    assert fields(schema, 'Tags: ["a", "b"]') == {"answer": ["a", "b"]}


def test_a_reference_at_the_root_is_followed() -> None:
    schema = {"$ref": "#/$defs/Label", "$defs": {"Label": LABEL}}
    assert fields(schema, {"label": "positive"})["label"] == "positive"


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        ({"label": "meh"}, "label: 'meh' is not one of ['positive', 'negative']"),
        ({"label": "positive", "score": 2}, "score: 2 is greater than the maximum of 1"),
        ({"score": 1}, "the JSON does not fit its schema: 'label' is a required property"),
        ("[1]", "the JSON does not fit its schema: [1] is not of type 'object'"),
        ("none", "there is no JSON value in the reply"),
    ],
)
def test_an_invalid_reply_is_told_what_is_wrong_and_where(reply: object, complaint: str) -> None:
    with pytest.raises(Invalid) as refusal:
        fields(LABEL, reply)
    assert str(refusal.value) == complaint


def test_a_long_value_does_not_hide_what_is_wrong_with_it() -> None:
    with pytest.raises(Invalid, match=r"^label: .* \.\.\. .* is not of type 'integer'$") as refusal:
        fields({"properties": {"label": {"type": "integer"}}}, {"label": "long " * 1000})
    assert len(str(refusal.value)) < 250


def test_a_value_that_need_not_be_an_object_must_be_one_to_give_fields() -> None:
    with pytest.raises(Invalid, match="the JSON value is not an object"):
        fields({"properties": {"label": {}}}, "5")


@pytest.mark.parametrize("depth", [300, 900, 5000])
def test_a_value_nested_deeply_is_valid_or_invalid_and_nothing_else(depth: int) -> None:
    schema = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"type": "string"}]}}
    try:
        found = fields(schema, "[" * depth + "1" + "]" * depth)
    except Invalid as refusal:
        found = {"answer": str(refusal)}
    assert found["answer"]


def test_a_pattern_in_a_schema_cannot_run_away() -> None:
    schema = {"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}}
    start = time.perf_counter()
    with pytest.raises(Invalid, match=r"a: .* does not match"):
        fields(schema, {"a": "a" * 60 + "b"})
    assert time.perf_counter() - start < 20


def test_a_pattern_for_keys_cannot_run_away() -> None:
    schema = {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}
    start = time.perf_counter()
    with pytest.raises(Invalid, match="the JSON does not fit its schema"):
        fields(schema, {"a" * 60 + "b": 1})
    assert time.perf_counter() - start < 20


def test_the_draft_is_the_one_that_the_schema_names() -> None:
    tuple_of_draft_7 = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "integer"}],
    }
    with pytest.raises(Invalid, match=r"\[0\]: 'x' is not of type 'integer'"):
        fields(tuple_of_draft_7, ["x"])


@pytest.mark.parametrize(
    ("schema", "message", "path"),
    [
        ({"type": "strng"}, 'at type: "strng" is not valid', ("type",)),
        (
            {"properties": {"a": {"minimum": "x"}}},
            'at properties.a.minimum: "x" is not of type "number"',
            ("properties", "a", "minimum"),
        ),
        (
            {"items": {"anyOf": [{"$ref": "https://x.example/y.json"}]}},
            "refers to 'https://x.example/y.json', outside of itself",
            ("items", "anyOf", 0, "$ref"),
        ),
        ({"$ref": "#/$defs/none"}, "does not exist", ()),
        ({"$ref": "#/x", "x": {"$ref": "https://x.example/y"}}, "Retrieval is disabled", ()),
        ({"properties": {1: {}}}, "key must be str", ()),
        ({"$schema": "https://x.example/z"}, "Unknown meta-schema", ()),
    ],
)
def test_a_schema_that_is_not_one_is_refused_with_the_place(
    schema: dict[str, Any], message: str, path: tuple[str | int, ...]
) -> None:
    with pytest.raises(BadExtractor, match=message) as refusal:
        extractor(schema)
    assert (refusal.value.key, refusal.value.path) == ("schema", path)


def test_data_in_a_schema_may_look_like_a_reference() -> None:
    schema = {"const": {"$ref": "https://x.example/y.json"}}
    assert fields(schema, schema["const"]) == {"answer": schema["const"]}


def test_a_type_does_not_go_with_several_fields() -> None:
    with pytest.raises(BadExtractor) as refusal:
        extractor(LABEL, type="str")
    assert refusal.value.key == "type"


def test_a_closed_schema_is_sent_as_strict() -> None:
    closed = {**LABEL, "required": ["label", "score"], "additionalProperties": False}
    sent = extractor(closed).response_format()
    assert sent == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": closed, "strict": True},
    }


@pytest.mark.parametrize(
    "schema",
    [
        LABEL,
        {**LABEL, "required": ["label", "score"]},
        {"type": "array", "items": {}},
        {
            "type": "object",
            "properties": {"a": {"type": "object"}},
            "required": ["a"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"a": {"not": {"type": "string"}}},
            "required": ["a"],
            "additionalProperties": False,
        },
    ],
)
def test_a_schema_beyond_the_rules_of_strict_is_sent_without(schema: dict[str, Any]) -> None:
    assert "strict" not in extractor(schema).response_format()["json_schema"]
