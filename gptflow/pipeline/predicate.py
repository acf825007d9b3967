"""`source.where`: an expression of the spec as a question about a row's columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import UndefinedError

from gptflow.errors import DataError
from gptflow.pipeline.names import names_of
from gptflow.pipeline.prompts import RENDER_ERRORS

Expression = Callable[[Mapping[str, Any]], Any]
"""An expression of the spec, compiled: its value by the names of a row."""


def predicate(
    expression: Expression, spec_vars: dict[str, Any]
) -> Callable[[Mapping[str, Any]], bool]:
    """Whether the expression holds for a row's columns; DataError where it has no value."""

    def holds(columns: Mapping[str, Any]) -> bool:
        try:
            return bool(expression(names_of(spec_vars, columns)))
        except RENDER_ERRORS as error:
            hint = None
            if isinstance(error, UndefinedError):
                hint = "test for what may be missing: title is defined and title"
            message = f"source.where cannot be evaluated for this row: {error}"
            raise DataError(message, hint=hint) from error

    return holds
