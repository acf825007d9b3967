from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from gptflow.mock.instance import fitting_value

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        TREE,
        {"type": "string", "minLength": 9},
        {"type": "string", "maxLength": 2},
        {"type": ["null", "integer"], "minimum": 5},
        {"type": "integer", "maximum": -3},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
        {"type": "integer", "multipleOf": 7, "maximum": 0},
        {"type": "number", "exclusiveMinimum": 2, "maximum": 2.5},
        {"type": "number", "multipleOf": 0.5, "minimum": 1.2},
        {"type": "boolean"},
        {"type": "null"},
        {"const": 3},
        {"enum": ["positive", "negative"]},
        {"type": "array", "minItems": 3, "items": {"type": "number"}},
        {"type": "array", "maxItems": 0},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
            ]
        },
    ],
)
def test_the_value_fits_the_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(fitting_value(schema, "text"), schema)


def test_strings_are_the_text() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {}}}}
    assert fitting_value(schema, "hello") == {"a": "hello", "b": ["hello"]}


def test_a_reference_to_nothing_gives_nothing() -> None:
    assert fitting_value({"properties": {"a": {"$ref": "#/$defs/x"}}}, "t") == {"a": None}
