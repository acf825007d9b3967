"""The JSON Schema of config.json, for editors; it is generated from the models.

`python -m gptflow.engine.config_schema` writes schemas/config.schema.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from gptflow.engine.config_file import ConfigFile

SCHEMA_FILE = Path("schemas/config.schema.json")


def config_schema() -> dict[str, Any]:
    """The JSON Schema of config.json, draft 2020-12."""
    schema = ConfigFile.model_json_schema(schema_generator=_WithoutTitles)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The API keys of gptflow",
        "allowComments": True,  # two words of VS Code's own, which others pass over
        "allowTrailingCommas": True,
        **schema,
    }


def as_text(schema: dict[str, Any]) -> str:
    """The schema as the generated file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out titles that only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (pydantic's name)
        return False

    def model_schema(self, schema: Any) -> dict[str, Any]:
        return {key: value for key, value in super().model_schema(schema).items() if key != "title"}


if __name__ == "__main__":
    text = as_text(config_schema())
    if not SCHEMA_FILE.exists() or SCHEMA_FILE.read_text(encoding="utf-8") != text:
        SCHEMA_FILE.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{SCHEMA_FILE}\n")
