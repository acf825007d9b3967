"""The JSON Schema of the language, and the list of the API's parameters; both are generated.

`python -m gptflow.spec.schema` writes schemas/pipeline.schema.json and spec/parameters.json.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from gptflow.spec.expectation import Fragment
from gptflow.spec.model import Spec
from gptflow.spec.parameters import PARAMETERS_FILE, SET_BY_GPTFLOW, api_parameters

SCHEMA_FILE = Path("schemas/pipeline.schema.json")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
_ENOUGH_CHARS = 70
_MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_RANGE = re.compile(r"between (-?\d+(?:\.\d+)?) and (-?\d+(?:\.\d+)?)")


def pipeline_schema() -> dict[str, Any]:
    """The JSON Schema of a pipeline file, draft 2020-12, with the API's parameters in `model`."""
    schema = Spec.model_json_schema(schema_generator=_WithoutTitles)
    for definition in schema["$defs"].values():
        _allow_only_names(definition)
    _allow_only_names(schema)
    model = schema["$defs"]["ModelSpec"]
    model["properties"] |= api_parameters()
    model["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A gptflow pipeline",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def generated_parameters() -> dict[str, Any]:
    """What parameters.json holds, from the `openai` package that is installed."""
    import openai
    from openai.types.chat import completion_create_params

    types = completion_create_params.CompletionCreateParamsNonStreaming
    schema = TypeAdapter(types).json_schema()
    texts = attribute_docstrings(completion_create_params)
    parameters = {
        name: _parameter(fragment, schema["$defs"], texts.get(name, ""))
        for name, fragment in sorted(schema["properties"].items())
        if name not in SET_BY_GPTFLOW
    }
    return {"openai": openai.__version__, "parameters": parameters}


def write_generated(folder: Path = Path()) -> list[Path]:
    """Writes both files below the repository's folder; gives those that changed."""
    texts = {PARAMETERS_FILE: as_text(generated_parameters())}
    changed = _write(texts)
    api_parameters.cache_clear()
    return changed + _write({folder / SCHEMA_FILE: as_text(pipeline_schema())})


def as_text(document: dict[str, Any]) -> str:
    """A document as the generated files have it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _write(texts: dict[Path, str]) -> list[Path]:
    changed = []
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out titles that only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (pydantic's name)
        return False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        return {key: value for key, value in super().model_schema(schema).items() if key != "title"}


def _allow_only_names(definition: Fragment) -> None:
    for fragment in definition.get("properties", {}).values():
        if "patternProperties" in fragment:
            fragment["additionalProperties"] = False


def attribute_docstrings(source: Any) -> dict[str, str]:
    """The text below each attribute of a class, or of a module's first class.

    No object carries these texts, so they are read from the source.
    """
    body = next(
        node.body
        for node in ast.parse(inspect.getsource(source)).body
        if isinstance(node, ast.ClassDef)
    )
    texts = {}
    for attribute, after in itertools.pairwise(body):
        match attribute, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = inspect.cleandoc(text)
    return texts


def _parameter(fragment: Fragment, definitions: Fragment, text: str) -> Fragment:
    """One parameter: its type without what lies deep in it, its range, its description."""
    arms = _simple_arms(fragment, definitions)
    in_range = _RANGE.search(_MARKDOWN_LINK.sub(r"\1", text))
    for arm in arms:
        if in_range and arm.get("type") in ("integer", "number"):
            arm["minimum"], arm["maximum"] = map(_number, in_range.groups())
    simple = arms[0] if len(arms) == 1 else {"anyOf": arms}
    return {**simple, "description": _one_line(text)}


def _number(text: str) -> float | int:
    return int(float(text)) if float(text).is_integer() else float(text)


def _simple_arms(fragment: Fragment, definitions: Fragment) -> list[Fragment]:
    """The forms of a value, each of which is told by a type and little more."""
    if "$ref" in fragment:
        return _simple_arms(definitions[fragment["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in fragment:
        arms = [simple for arm in fragment["anyOf"] for simple in _simple_arms(arm, definitions)]
        return [arm for index, arm in enumerate(arms) if arm not in arms[:index]]
    simple: Fragment = {key: fragment[key] for key in ("type", "enum", "const") if key in fragment}
    if fragment.get("type") == "array":
        items = _simple_arms(fragment.get("items", {}), definitions)
        simple["items"] = items[0] if len(items) == 1 else {"anyOf": items}
    values = fragment.get("additionalProperties")
    if isinstance(values, dict):
        simple["additionalProperties"] = {"type": values["type"]}
    return [simple]


def _one_line(text: str) -> str:
    """The first sentence, and further ones as long as it says little."""
    sentences = _SENTENCE_END.split(" ".join(_MARKDOWN_LINK.sub(r"\1", text).split()))
    line = ""
    while sentences and len(line) < _ENOUGH_CHARS:
        line = f"{line} {sentences.pop(0)}".strip()
    return line


if __name__ == "__main__":
    for written in write_generated():
        sys.stdout.write(f"{written}\n")
