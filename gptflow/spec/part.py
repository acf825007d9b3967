"""What the models of the spec language have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

FIELD_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
"""Names of steps, fields and vars: they must be usable as names in a template."""

RESERVED_NAMES = ("row", "vars", "steps")
"""The namespaces that every template has."""

Name = Annotated[
    str,
    Field(
        pattern=FIELD_NAME,
        description="A name for templates: letters, digits and underscores, no digit first.",
    ),
]


class SpecModel(BaseModel):
    """What all parts share: frozen, no key that is not declared, no type that is not meant.

    Built late: only the whole spec is ever validated, and building each part by itself as well
    would double the time to start. What pydantic says of a mistake does not show the value, which
    may be a secret.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
        hide_input_in_errors=True,
    )


class FileRef(SpecModel):
    """Text that stands in a file of its own."""

    file: str = Field(
        min_length=1,
        description="Path of the file, from the templates folder.",
        examples=["label.jinja"],
    )
