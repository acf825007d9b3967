"""The spec language: what a pipeline file may say. The JSON Schema and the docs come from here.

Only shapes, types and defaults stand here. What needs the rest of the file, the data or the
disk to be judged (names in templates, regexes, missing files) is checked elsewhere:
`spec.load` for the file itself, `pipeline.check` for everything that is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from gptflow.spec.extractor import (
    EXTRACTOR_KINDS,
    AnyExtractor,
    ChoiceExtractor,
    Extractor,
    FieldType,
    JsonExtractor,
    Labels,
    PythonExtractor,
    RegexExtractor,
    SchemaExtractor,
    TextExtractor,
    long_form,
)
from gptflow.spec.hook import HookName, refuse_mixture
from gptflow.spec.limits import LimitsSpec
from gptflow.spec.notify import LarkSpec, NotifySpec, Occasion
from gptflow.spec.origin import Origin
from gptflow.spec.parallelism import MODES, BatchSpec, Mode, ParallelismSpec, RaySpec, WorkersRange
from gptflow.spec.part import FIELD_NAME, RESERVED_NAMES, FileRef, Name, SpecModel

__all__ = [
    "EXTRACTOR_KINDS",
    "FIELD_NAME",
    "MODES",
    "RESERVED_NAMES",
    "AnyExtractor",
    "BatchSpec",
    "ChoiceExtractor",
    "Example",
    "Extractor",
    "FieldType",
    "FileRef",
    "JsonExtractor",
    "Labels",
    "LarkSpec",
    "LimitsSpec",
    "Mode",
    "ModelSpec",
    "Name",
    "NotifySpec",
    "Occasion",
    "OnInvalid",
    "OutputFormat",
    "OutputSpec",
    "ParallelismSpec",
    "PythonExtractor",
    "RaySpec",
    "RegexExtractor",
    "Sample",
    "SchemaExtractor",
    "SourceFormat",
    "SourceSpec",
    "Spec",
    "SpecModel",
    "StepSpec",
    "TextExtractor",
    "WorkersRange",
]


class Sample(SpecModel):
    """A random sample of the rows, the same one for the same seed and data."""

    n: int = Field(ge=1, description="How many rows to take.", examples=[100])
    seed: int = Field(default=0, description="Another seed takes another sample.")


SourceFormat = Literal["jsonl", "json", "csv", "tsv", "txt", "parquet"]


class SourceSpec(SpecModel):
    """Where the rows come from: exactly one of `path`, `rows` and `range`."""

    path: str | list[str] | None = Field(
        default=None,
        description="A .jsonl, .json (array), .csv, .tsv or .txt file, each also .gz or .zst; "
        "a .parquet file, or a folder of them; a glob; a list of these; or - for standard input. "
        "Relative to the spec file.",
    )
    rows: list[dict[str, Any]] | None = Field(
        default=None, description="The rows themselves, each a mapping of columns."
    )
    range: int | None = Field(
        default=None, ge=1, description="That many rows with one column, `index`, from 0."
    )
    format: SourceFormat | None = Field(
        default=None,
        description="The format, where the file name does not tell it; standard input is read "
        "as jsonl if this is not given.",
    )
    id: str | list[str] | None = Field(
        default=None,
        description="The column or columns that identify a row. Without it the whole row does.",
    )
    transform: HookName | None = Field(
        default=None,
        description="A function, module:function, called with each record: it gives a row, None "
        "to leave it out, or a list of rows. `id`, `where` and the templates see its rows. Needs "
        "--allow-python.",
        examples=["hooks:split"],
    )
    where: str | None = Field(
        default=None, description="A Jinja expression; only rows for which it is true are taken."
    )
    limit: int | None = Field(
        default=None, ge=1, description="Take only the first rows that `where` lets through."
    )
    sample: Sample | None = Field(
        default=None, description="Take a random sample of the rows that `limit` leaves."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> SourceSpec:
        given = [name for name in ("path", "rows", "range") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"give exactly one of path, rows and range; found {found}")
        return self

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that identify a row; empty when the whole row does."""
        if self.id is None:
            return ()
        return (self.id,) if isinstance(self.id, str) else tuple(self.id)


class ModelSpec(BaseModel):
    """A model's name and any parameter of the chat completions API.

    The parameters are not declared here: they are checked against `spec/parameters.json`, which
    is generated from the `openai` package's own types.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, defer_build=True)

    name: str | None = Field(
        default=None,
        min_length=1,
        description="The model, as the server names it.",
        examples=["gpt-4o-mini"],
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="Anything else for the request body, passed through unchecked.",
        examples=[{"top_k": 40}],
    )

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as they go into the request body, without the model's name."""
        return {**(self.model_extra or {}), **self.extra_body}

    def merged(self, over: ModelSpec | None) -> ModelSpec:
        """This model with the values of `over` in place of its own."""
        if over is None:
            return self
        mine, theirs = (m.model_dump(exclude_unset=True) for m in (self, over))
        extra_body = {**self.extra_body, **over.extra_body}
        return ModelSpec(**{**mine, **theirs, "extra_body": extra_body})


class Example(SpecModel):
    """One few-shot turn: what a user might say, and how the model should answer."""

    user: str = Field(
        description="The user's message; a template.", examples=["Review: arrived broken"]
    )
    assistant: str = Field(description="The answer; a template.", examples=["negative"])


class OnInvalid(SpecModel):
    """What to do with a reply that the extractors do not accept."""

    reask: int = Field(
        default=0,
        ge=0,
        le=20,
        description="How often to ask again in the conversation, saying what was wrong.",
    )
    then: Literal["fail", "keep"] = Field(
        default="fail",
        description="After that: fail the row, or keep it with the step's fields as null.",
    )


def _add_short_form(schema: dict[str, Any]) -> None:
    """Lets the JSON Schema of `extract` take what the validator below takes."""
    (extractor,) = schema["patternProperties"].values()
    extractor["oneOf"].append({"const": "text", "description": "Short for {text: true}."})


def _demand_one_way(schema: dict[str, Any]) -> None:
    """Lets the JSON Schema of a step say what the validator below says."""
    schema["oneOf"] = [{"required": ["prompt"]}, {"required": ["python", "fields"]}]


class StepSpec(SpecModel):
    """One named question. The steps of a row are one conversation: each sees all earlier turns."""

    model_config = ConfigDict(json_schema_extra=_demand_one_way)

    name: Name = Field(
        description="Names the step in templates, messages and the store.", examples=["label"]
    )
    system: str | FileRef | None = Field(
        default=None,
        description="The system message: a template or {file: ...}. The first step's stands for "
        "the conversation; a later one's is added where it stands.",
    )
    prompt: str | FileRef | None = Field(
        default=None,
        description="The user message: a template or {file: ...}.",
        examples=["Label this review: {{ text }}", {"file": "label.jinja"}],
    )
    python: HookName | None = Field(
        default=None,
        description="In place of a prompt: a function, module:function, called with the row, and "
        "with a wrapper that asks the model where it takes a second argument. It gives a dict of "
        "the `fields`. Needs --allow-python.",
        examples=["hooks:score"],
    )
    fields: list[Name] | None = Field(
        default=None, min_length=1, description="With `python`: the fields that it gives."
    )
    examples: list[Example] | FileRef | None = Field(
        default=None,
        description="Few-shot turns before the prompt; or {file: ...}, a .jsonl file of them.",
    )
    when: str | bool | None = Field(
        default=None,
        description="A Jinja expression; where it is false the step is left out and its fields "
        "are null.",
    )
    model: ModelSpec | None = Field(
        default=None, description="Values for this step in place of the spec's `model`."
    )
    extract: dict[Name, AnyExtractor] = Field(
        default_factory=dict,
        description="The fields that the reply gives, by name.",
        json_schema_extra=_add_short_form,
    )
    structured: bool = Field(
        default=False,
        description="Send the step's schema extractor to the server as response_format.",
    )
    on_invalid: OnInvalid = Field(
        default_factory=OnInvalid, description="What to do with a reply that is not valid."
    )

    @field_validator("prompt", mode="before")
    @classmethod
    def _some_prompt(cls, value: object) -> object:
        if value is None:
            raise ValueError("expected text or {file: ...}, found nothing")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> StepSpec:
        refuse_mixture({key for key in self.model_fields_set if getattr(self, key) is not None})
        return self

    @field_validator("extract", mode="before")
    @classmethod
    def _shorthands(cls, value: object) -> object:
        """`apology: text` is short for {text: true}, {one_of: [...]} for {choice: [...]}."""
        if not isinstance(value, Mapping):
            return value
        return {name: long_form(extractor) for name, extractor in value.items()}


OutputFormat = Literal["jsonl", "json", "csv", "parquet"]


class OutputSpec(SpecModel):
    """Where the finished rows go."""

    path: str | None = Field(
        default=None,
        description="A .jsonl, .json, .csv or .parquet file, relative to the spec file; without "
        "it out/NAME.jsonl. On Ray also a folder, with a slash at its end: each Parquet file of "
        "the source has an output of its own there.",
    )
    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Columns and fields to write, in this order; without it all of them.",
    )
    csv_safe: bool = Field(
        default=False,
        description="In a .csv file, put an apostrophe before what a spreadsheet would take for a "
        "formula: for files that people open there. Programs see it as part of the text.",
    )


class Spec(SpecModel):
    """A pipeline: rows in, questions asked of each, answers out as columns."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="Names the store and its runs: letters, digits, dots, dashes, underscores.",
        examples=["review-sentiment"],
    )
    vars: dict[Name, Any] = Field(default_factory=dict, description="Constants for the templates.")
    source: SourceSpec = Field(
        description="Where the rows come from.", examples=[{"path": "data/reviews.jsonl"}]
    )
    model: ModelSpec = Field(
        default_factory=ModelSpec, description="The model and its parameters, for every step."
    )
    templates: str | None = Field(
        default=None,
        description="The folder for {% include %}, {% import %} and {file: ...}; without it the "
        "folder of the spec file.",
    )
    steps: list[StepSpec] = Field(
        min_length=1,
        description="The questions, in order.",
        examples=[[{"name": "label", "prompt": "Label this review: {{ text }}"}]],
    )
    parallelism: ParallelismSpec = Field(
        default_factory=ParallelismSpec, description="How wide to run, and where."
    )
    limits: LimitsSpec = Field(
        default_factory=LimitsSpec, description="What a call and a run may take."
    )
    output: OutputSpec = Field(
        default_factory=OutputSpec, description="Where the finished rows go."
    )
    notify: NotifySpec = Field(
        default_factory=NotifySpec, description="Whom to tell how the run goes."
    )

    _origin: Origin = PrivateAttr(default_factory=Origin.nowhere)

    @property
    def origin(self) -> Origin:
        """The file that this spec was read from, with the place of everything in it."""
        return self._origin

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the spec start from."""
        return self._origin.folder
