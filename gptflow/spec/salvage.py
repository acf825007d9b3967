"""What can be kept of a spec with mistakes in its shape, so that the rest of it is checked too.

A person who mistyped a key wants to hear of the misspelt column as well, in one go. So what is
wrong is taken out, or something harmless stands in for it, until the models accept the rest.
"""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from gptflow.spec.model import Spec
from gptflow.spec.origin import KeyPath
from gptflow.spec.shape import wrong_paths

ROUNDS = 10
"""Taking something out can bring other mistakes to light, but not for long."""

UNKNOWN_SOURCE = {"range": 1}
"""Stands in for a source that cannot be understood."""


def salvage(data: Any, error: ValidationError) -> tuple[Spec | None, bool]:
    """The spec without its mistakes: good for finding more of them, and for nothing else.

    Returns:
        The spec, None where too little is left; and whether its source is the file's own.
    """
    data = copy.deepcopy(data)
    for _ in range(ROUNDS):
        for path in sorted(wrong_paths(error, data), key=len, reverse=True):
            _mend(data, path)
        try:
            return Spec.model_validate(data), data["source"] is not UNKNOWN_SOURCE
        except ValidationError as next_error:
            error = next_error
    return None, False


def _mend(data: dict[str, Any], path: KeyPath) -> None:
    """Takes out the value at `path`; puts something in where there must be something."""
    match path:
        case ():
            return
        case ("name",):
            data["name"] = "unnamed"
        case ("source",):
            data["source"] = UNKNOWN_SOURCE
        case ("steps",):
            data["steps"] = [_step(0)]
        case ("steps", int(index), *rest):
            _mend_step(data["steps"], index, rest)
        case ("source" | "vars" as part, name, *_):
            data[part].pop(name, None)
        case (key, *_):
            data.pop(str(key), None)


def _mend_step(steps: list[Any], index: int, path: list[str | int]) -> None:
    match path:
        case []:
            steps[index] = _kept(steps[index], index)
        case ["python", *_] if "prompt" not in steps[index]:
            steps[index] = _kept(steps[index], index)
        case ["name" | "prompt" as key, *_]:
            steps[index][key] = _step(index)[key]
        case ["extract", str(name), *_] if name.isidentifier():
            # The field stays, so that templates which name it are not blamed.
            steps[index]["extract"][name] = {"text": True}
        case [key, *_]:
            steps[index].pop(key, None)


def _kept(step: Any, index: int) -> dict[str, Any]:
    """A step in place of one that is wrong as a whole: its fields stay, for who names them."""
    kept: dict[str, Any] = _step(index)
    if not isinstance(step, dict):
        return kept
    name, fields, extract = (step.get(key) for key in ("name", "fields", "extract"))
    found = dict(extract) if isinstance(extract, dict) else {}
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, str) and field.isidentifier():
            found[field] = {"text": True}
    return {**kept, **({"name": name} if isinstance(name, str) else {}), "extract": found}


def _step(index: int) -> dict[str, str]:
    return {"name": f"step_{index}", "prompt": ""}
