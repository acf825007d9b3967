"""What the language expects at a place, and what was found there, in a person's words.

The words come from the JSON Schema that is generated from the models, so that they say what the
models say: "expected a whole number of at least 1, found 'many'".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gptflow.spec.extractor import EXTRACTOR_KINDS
from gptflow.spec.origin import KeyPath, value_at

Fragment = dict[str, Any]
"""A part of a JSON Schema."""

_PYTHON_TYPES: dict[str, type] = {
    "null": type(None),
    "boolean": bool,
    "string": str,
    "array": list,
    "object": dict,
}
_FOUND_CHARS = 40


def found(value: object) -> str:
    """A value as a message names it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        text = " ".join(value.split())
        return f"'{text}'" if len(text) <= _FOUND_CHARS else f"'{text[:_FOUND_CHARS]}…'"
    kind = "list" if isinstance(value, list) else "mapping"
    return f"a {kind}" if value else f"an empty {kind}"


def expected(fragment: Fragment) -> str:
    """What a part of the schema takes: "text", "a number above 0", "'fail' or 'keep'"."""
    arms = [arm for arm in _arms(fragment) if arm.get("type") != "null"]
    return either(dict.fromkeys(_expected_by_one(arm) for arm in arms))


def either(words: Iterable[str]) -> str:
    """The words with commas between, and `or` before the last."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _expected_by_one(fragment: Fragment) -> str:
    if "const" in fragment or "enum" in fragment:
        values = fragment["enum"] if "enum" in fragment else [fragment["const"]]
        return either(f"'{value}'" if isinstance(value, str) else found(value) for value in values)
    kind = fragment.get("type")
    if kind in ("integer", "number"):
        return f"a {'whole ' if kind == 'integer' else ''}number{_bounds(fragment)}"
    if kind == "array" and fragment.get("minItems"):
        return "a list with at least one item"
    if kind == "object" and list(fragment.get("properties", ())) == ["file"]:
        return "{file: ...}"
    if kind == "string" and fragment.get("minLength"):
        return "some text"
    words = {"boolean": "true or false", "array": "a list", "object": "a mapping"}
    return words.get(str(kind), "text")


def _bounds(fragment: Fragment) -> str:
    least, most = fragment.get("minimum"), fragment.get("maximum")
    if least is not None and most is not None:
        return f" from {least:,} to {most:,}"
    words = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "of at most"}
    bounds = [f"{words[name]} {fragment[name]:,}" for name in words if name in fragment]
    return f" {' and '.join(bounds)}" if bounds else ""


def fits(value: object, fragment: Fragment) -> bool:
    """Whether a parameter of the API is of the right type and within its bounds.

    Knows only the keywords that `parameters.json` has: importing jsonschema takes longer than all
    the rest of validating.
    """
    return any(_fits_one(value, arm) for arm in _arms(fragment))


def _fits_one(value: object, fragment: Fragment) -> bool:
    if "enum" in fragment:
        return value in fragment["enum"]
    kind = fragment.get("type")
    if kind in ("integer", "number"):
        return _fits_number(value, fragment)
    if kind is not None and not isinstance(value, _PYTHON_TYPES[kind]):
        return False
    if isinstance(value, list):
        return all(fits(item, fragment.get("items", {})) for item in value)
    if isinstance(value, dict):
        return all(fits(item, fragment.get("additionalProperties", {})) for item in value.values())
    return True


def _fits_number(value: object, fragment: Fragment) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float) and not math.isfinite(value):  # an int may be too long for it
        return False
    least, most = fragment.get("minimum", value), fragment.get("maximum", value)
    is_whole = isinstance(value, int) or fragment["type"] == "number"
    return is_whole and bool(least <= value <= most)


def fragment_at(schema: Fragment, data: Any, path: KeyPath) -> Fragment:
    """The part of the pipeline schema that rules the value at `path` of `data`; {} if none does.

    The last key may be one that the data does not have. Where the schema takes several forms, the
    one is followed that the data looks like.
    """
    fragment = schema
    for part in path:
        form = _form_of(schema, fragment, data)
        fragment = form.get("items", {}) if isinstance(part, int) else _value_of_key(form, part)
        data = data.get(part) if isinstance(data, dict) else data[part]
    return _resolved(schema, fragment)


def known_keys(schema: Fragment, data: Any, path: KeyPath) -> list[str]:
    """The keys that the mapping at `path` of `data` may have."""
    keys = list(
        _form_of(schema, fragment_at(schema, data, path), value_at(data, path))["properties"]
    )
    if is_extractor(path):
        keys += [kind for kind in EXTRACTOR_KINDS if kind not in keys]
    return keys


def is_extractor(path: KeyPath) -> bool:
    """Whether the value at the path is an extractor."""
    return len(path) == 4 and path[0] == "steps" and path[2] == "extract"


def _value_of_key(form: Fragment, key: str) -> Fragment:
    of_any_key: Fragment = next(iter(form.get("patternProperties", {}).values()), {})
    fragment: Fragment = form.get("properties", {}).get(key, of_any_key)
    return fragment


def _form_of(schema: Fragment, fragment: Fragment, data: Any) -> Fragment:
    """The arm of a choice that has most in common with the data."""
    arms = _arms(_resolved(schema, fragment))

    def likeness(arm: Fragment) -> int:
        if isinstance(data, dict) and arm.get("type") == "object":
            return 1 + len(data.keys() & arm.get("properties", {}).keys())
        return int(isinstance(data, list) and arm.get("type") == "array")

    return max(arms, key=likeness)


def _arms(fragment: Fragment) -> list[Fragment]:
    """The forms that the fragment may take; itself if there is only one."""
    if "properties" in fragment:
        return [fragment]
    arms: list[Fragment] = fragment.get("anyOf") or fragment.get("oneOf") or [fragment]
    return arms


def _resolved(schema: Fragment, fragment: Fragment) -> Fragment:
    """The fragment without references at its top and in its arms."""
    if "$ref" in fragment:
        target = schema["$defs"][fragment["$ref"].rsplit("/", 1)[1]]
        return {**target, **{key: value for key, value in fragment.items() if key != "$ref"}}
    arms = _arms(fragment)
    if arms == [fragment]:
        return fragment
    return {**fragment, "anyOf": [_resolved(schema, arm) for arm in arms]}
