from __future__ import annotations

import pickle
import sys
from subprocess import run
from typing import Any

import pytest
from pydantic import TypeAdapter

from gptflow.pipeline.extract.extractor import Extractor, build, extract_all, wanted
from gptflow.pipeline.extract.invalid import Invalid
from gptflow.spec.extractor import AnyExtractor

SPEC: TypeAdapter[AnyExtractor] = TypeAdapter(AnyExtractor)
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}

# Each kind of extractor, with a reply that it accepts and one that it does not.
CONTRACT: list[tuple[dict[str, Any], str, dict[str, Any], str]] = [
    ({"text": True}, " hello\n", {"f": "hello"}, ""),
    ({"text": True, "type": "int"}, "12", {"f": 12}, "twelve"),
    ({"text": True, "one_of": ["a", "b"]}, "B.", {"f": "b"}, "c"),
    ({"regex": r"is (\w+)"}, "it is good", {"f": "good"}, "bad"),
    ({"regex": r"\d", "all": True, "type": "int"}, "1 2", {"f": [1, 2]}, "none"),
    ({"regex": r"\w", "all": True, "type": "list", "one_of": ["A"]}, "a", {"f": ["A"]}, "b"),
    ({"regex": r"is (\w+)", "one_of": ["Good"]}, "it is good", {"f": "Good"}, "it is bad"),
    ({"regex": "is  # a comment\n(.+)", "flags": "x"}, "is so", {"f": " so"}, "no"),
    ({"json": "label"}, '{"label": null}', {"f": None}, "{}"),
    ({"json": True}, "so: [1, 2]", {"f": [1, 2]}, "so"),
    ({"json": "$", "type": "list"}, '{"a": 1} [2]', {"f": [2]}, '{"a": 1}'),
    ({"json": "a[*].n", "type": "int"}, '{"a": [{"n": "1"}]}', {"f": [1]}, '{"a": [{"n": "x"}]}'),
    ({"json": "n", "type": "str"}, '{"n": 5}', {"f": "5"}, '{"n": null}'),
    ({"json": "tags", "one_of": ["x", "y"]}, '{"tags": ["X"]}', {"f": ["x"]}, '{"tags": ["z"]}'),
    ({"schema": SCHEMA}, '```json\n{"label": "x"}\n```', {"label": "x"}, '{"label": 1}'),
    ({"schema": {"type": "integer"}}, "5", {"f": 5}, "five"),
    ({"choice": ["yes", "no"]}, "**Yes**", {"f": "yes"}, "yes or no"),
    ({"choice": True, "one_of": ["yes", "no"]}, "No!", {"f": "no"}, "maybe"),
]


def built(spec: dict[str, Any], name: str = "f") -> Extractor:
    parsed = SPEC.validate_python(spec)
    choice = spec.get("choice")
    return build(name, parsed, choice if isinstance(choice, list) else spec.get("one_of"))


contract = pytest.mark.parametrize(("spec", "good", "fields", "bad"), CONTRACT)


@contract
def test_an_extractor_gives_its_fields(
    spec: dict[str, Any], good: str, fields: dict[str, Any], bad: str
) -> None:
    extractor = built(spec)
    assert extract_all([extractor], good) == fields
    assert extractor.fields == tuple(fields)
    assert "\n" not in extractor.wants()
    if bad:
        with pytest.raises(Invalid, match=r"^[^\n]+$"):
            extract_all([extractor], bad)


@contract
def test_an_extractor_works_after_its_journey_to_another_process(
    spec: dict[str, Any], good: str, fields: dict[str, Any], bad: str
) -> None:
    travelled = pickle.loads(pickle.dumps(built(spec)))
    assert extract_all([travelled], good) == fields
    del bad


def test_all_complaints_come_together_and_each_once() -> None:
    extractors = [built({"json": "a"}, "a"), built({"json": "b"}, "b"), built({"regex": "x"}, "c")]
    with pytest.raises(Invalid) as refusal:
        extract_all(extractors, "nothing here")
    expected = 'there is no JSON value in the reply; c is missing: nothing matches "x"'
    assert str(refusal.value) == expected


def test_a_value_that_breaks_off_is_said_so_to_every_extractor() -> None:
    with pytest.raises(Invalid, match=r"^the JSON in the reply breaks off before its end$"):
        extract_all([built({"json": "a"}, "a"), built({"json": "b"}, "b")], 'so: {"a": [1, ')


def test_fields_stand_in_the_order_of_the_spec() -> None:
    extractors = [built({"json": "b"}, "b"), built({"text": True}, "t"), built({"json": "a"}, "a")]
    assert list(extract_all(extractors, '{"a": 1, "b": 2}')) == ["b", "t", "a"]


def test_what_is_wanted_is_said_on_one_line() -> None:
    extractors = [
        built({"json": "label", "one_of": ["good", "bad"]}, "label"),
        built({"json": "score", "type": "int"}, "score"),
    ]
    assert (
        wanted(extractors) == "JSON with label (one of good, bad); JSON with score (a whole number)"
    )


def test_building_extractors_loads_no_validator_without_a_schema() -> None:
    code = (
        "import sys; from gptflow.pipeline.extract import extractor;"
        "print([name for name in ('jsonschema', 'jsonschema_rs') if name in sys.modules])"
    )
    assert (
        run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
