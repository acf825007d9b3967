"""Makes a value that a JSON Schema is likely to accept, for examples of replies.

A best effort over the common keywords. The caller checks the value before it uses it.
"""

from __future__ import annotations

import math
from typing import Any

from gptflow.pipeline.extract.regex_example import matching_text
from gptflow.pipeline.extract.schema_node import resolved

_DEEP = 5
"""Below this depth only what is required is filled in, so that recursive schemas come to an end."""
_DEEPEST = 40
_HINTS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def example_value(schema: Any, root: dict[str, Any], pick: int, depth: int = 0) -> Any:
    """A value for a schema inside `root`; another one for another pick where there is a choice."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    node = _merged(schema, root, pick)
    listed = [node["const"]] if "const" in node else node.get("enum") or node.get("examples")
    if listed:
        return listed[pick % len(listed)]
    kind = _type(node)
    if kind == "object":
        return _object(node, root, pick, depth)
    if kind == "array":
        return _array(node, root, pick, depth)
    return _scalar(kind, node, pick)


def _merged(schema: dict[str, Any], root: dict[str, Any], pick: int) -> dict[str, Any]:
    """The schema with its reference, its allOf and one branch of anyOf or oneOf taken in."""
    node = {**schema, **resolved(schema, root)}
    branches = [*node.pop("allOf", ())]
    for key in ("anyOf", "oneOf"):
        choices = [choice for choice in node.pop(key, ()) if choice != {"type": "null"}]
        branches += choices[pick % len(choices) :][:1] if choices else []
    for branch in branches:
        inner = _merged(branch, root, pick) if isinstance(branch, dict) else {}
        properties = {**node.get("properties", {}), **inner.get("properties", {})}
        required = [*node.get("required", ()), *inner.get("required", ())]
        node = {**node, **inner}
        node |= {"properties": properties} if properties else {}
        node |= {"required": required} if required else {}
    return node


def _type(node: dict[str, Any]) -> str:
    kind = node.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind is None:
        kind = next((k for k, hints in _HINTS.items() if any(h in node for h in hints)), "string")
    return str(kind)


def _object(node: dict[str, Any], root: dict[str, Any], pick: int, depth: int) -> dict[str, Any]:
    properties, required = node.get("properties", {}), node.get("required", ())
    names = [name for name in properties if depth < _DEEP or name in required]
    names += [name for name in required if name not in properties]
    return {name: example_value(properties.get(name, {}), root, pick, depth + 1) for name in names}


def _array(node: dict[str, Any], root: dict[str, Any], pick: int, depth: int) -> list[Any]:
    least = node.get("minItems", 0)
    leading = list(node.get("prefixItems", ()))
    length = max(least, len(leading), 1 if depth < _DEEP else 0)
    length = min(length, node.get("maxItems", length), 1000)
    items = leading + [node.get("items", {})] * (length - len(leading))
    return [example_value(items[n], root, pick + n, depth + 1) for n in range(length)]


def _scalar(kind: str, node: dict[str, Any], pick: int) -> Any:
    if kind in ("integer", "number"):
        return _number(node, pick, whole=kind == "integer")
    if kind == "boolean":
        return pick % 2 == 0
    return None if kind == "null" else _text(node, pick)


def _number(node: dict[str, Any], pick: int, *, whole: bool) -> Any:
    step = node.get("multipleOf", 1 if whole else 0.5)
    low, high = node.get("minimum", -math.inf), node.get("maximum", math.inf)
    above, below = node.get("exclusiveMinimum", -math.inf), node.get("exclusiveMaximum", math.inf)
    first = max(low, above, 0 if min(high, below) >= 0 else min(high, below) - 10 * step)
    start = math.ceil(first / step)
    fitting = [
        number
        for number in (step * (start + n) for n in range(12))
        if low <= number <= high and above < number < below
    ]
    if fitting:
        return fitting[pick % len(fitting)]
    return (max(low, above) + min(high, below)) / 2 if max(low, above) > -math.inf else 0


def _text(node: dict[str, Any], pick: int) -> str:
    if "pattern" in node:
        return matching_text(node["pattern"], pick=pick)
    text = f"example {pick % 100}".ljust(min(node.get("minLength", 0), 100_000), ".")
    return text[: node.get("maxLength", len(text))]
