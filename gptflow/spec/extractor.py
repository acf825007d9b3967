"""The models of the extractors: how a reply becomes a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from gptflow.spec.hook import HookName
from gptflow.spec.part import SpecModel

FieldType = Literal["str", "int", "float", "bool", "list", "dict"]
_TYPE_SYNONYMS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}
Labels = Annotated[list[str | int | float | bool], Field(min_length=1)] | str
"""A list of labels, or a template that gives one: "{{ labels }}"."""


def _add_synonyms(schema: dict[str, Any]) -> None:
    """Lets the JSON Schema of `type` take what the validator below takes."""
    schema.pop("anyOf")
    schema["enum"] = [*_TYPE_SYNONYMS.values(), *_TYPE_SYNONYMS]


class Extractor(SpecModel):
    """What all extractors share."""

    type: FieldType | None = Field(
        default=None,
        description="Turn the value into this type; a value that cannot be turned is invalid. "
        "JSON Schema's names (string, integer, number, boolean, array, object) are taken too.",
        json_schema_extra=_add_synonyms,
    )
    one_of: Labels | None = Field(
        default=None,
        description="The only values that are valid; case and punctuation around are forgiven, "
        'and the label comes out as written here. A list, or a template: "{{ labels }}".',
        examples=[["positive", "negative"], "{{ labels }}"],
    )

    @field_validator("type", mode="before")
    @classmethod
    def _synonym(cls, value: object) -> object:
        return _TYPE_SYNONYMS.get(value, value) if isinstance(value, str) else value


class TextExtractor(Extractor):
    """The whole reply. The word `text` alone is short for {text: true}."""

    text: Literal[True] = Field(description="The whole reply, without white space around it.")


class RegexExtractor(Extractor):
    """What a regular expression finds in the reply."""

    regex: str = Field(
        min_length=1,
        description="A pattern of the `regex` package.",
        examples=[r"(?i)answer:\s*(\w+)"],
    )
    group: int | str | None = Field(
        default=None,
        description="The group to take, by number or name; without it the first group, or the "
        "whole match where the pattern has none.",
    )
    all: bool = Field(default=False, description="Take every match, as a list.")
    flags: str = Field(
        default="",
        pattern=r"^[aimsx]*$",
        description="i: ignore case; m: ^ and $ at each line; s: a dot matches line ends; "
        "x: white space and comments; a: ASCII classes.",
    )
    timeout_s: float = Field(
        default=1.0, gt=0, description="A search that takes longer makes the reply invalid."
    )


class JsonExtractor(Extractor):
    """A value out of the first JSON value in the reply, fenced or in prose."""

    json_path: str | Literal[True] = Field(
        alias="json",
        description="A path such as label, items[0].name or $; true takes the whole value.",
        examples=["label", True],
    )


class SchemaExtractor(Extractor):
    """A JSON value that a JSON Schema accepts. An object's properties become fields."""

    json_schema: dict[str, Any] = Field(
        alias="schema",
        description="A JSON Schema, or {file: path}. The properties of an object become fields; "
        "any other value becomes the one field that bears the extractor's name.",
        examples=[{"type": "array", "items": {"type": "string"}}, {"file": "answer.schema.json"}],
    )


class ChoiceExtractor(Extractor):
    """The one label of a list that the reply names. {one_of: [...]} alone means this too."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["choice"]}, {"required": ["one_of"]}]}
    )

    choice: Labels | Literal[True] = Field(
        default=True,
        description="The labels, as a list or a template; or true, with the labels in one_of. "
        "Case and punctuation are forgiven; two different labels in a reply are invalid.",
        examples=[["positive", "negative"], "{{ labels }}"],
    )

    @model_validator(mode="after")
    def _labels_given_once(self) -> ChoiceExtractor:
        if (self.choice is True) == (self.one_of is None):
            raise ValueError("give the labels either as the value of choice or as one_of")
        return self

    @property
    def labels(self) -> Labels:
        """The labels, wherever they were given."""
        if self.choice is not True:
            return self.choice
        assert self.one_of is not None  # _labels_given_once
        return self.one_of


class PythonExtractor(Extractor):
    """What a function of yours makes of the reply."""

    python: HookName = Field(
        description="A function, module:function, called with the reply's text, and with the row "
        "where it takes a second argument. It gives the value, or raises ValueError for a reply "
        "that is not valid. Needs --allow-python.",
        examples=["hooks:first_date"],
    )


EXTRACTOR_KINDS = ("text", "regex", "json", "schema", "choice", "python")


def extractor_kind(value: object) -> str | None:
    """The one key that says what kind of extractor a mapping is; None if it does not say one."""
    if isinstance(value, Extractor):
        return type(value).__name__.removesuffix("Extractor").lower()
    if not isinstance(value, Mapping):
        return None
    kinds = [kind for kind in EXTRACTOR_KINDS if kind in value]
    if not kinds and "one_of" in value:
        return "choice"
    return kinds[0] if len(kinds) == 1 else None


def long_form(extractor: object) -> object:
    """The word `text` as {text: true}; anything else as it is."""
    return {"text": True} if extractor == "text" else extractor


AnyExtractor = Annotated[
    Annotated[TextExtractor, Tag("text")]
    | Annotated[RegexExtractor, Tag("regex")]
    | Annotated[JsonExtractor, Tag("json")]
    | Annotated[SchemaExtractor, Tag("schema")]
    | Annotated[ChoiceExtractor, Tag("choice")]
    | Annotated[PythonExtractor, Tag("python")],
    Discriminator(
        extractor_kind,
        custom_error_type="extractor_kind",
        custom_error_message="an extractor is `text`, or a mapping with exactly one of the keys "
        + ", ".join(EXTRACTOR_KINDS),
    ),
]
