"""A value that fits a JSON Schema: what the simulated model says under structured output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_DEEP = 6
"""From here on only what a schema requires, so that one that contains itself comes to an end."""
_TOO_DEEP = 30


def fitting_value(schema: Mapping[Any, Any], text: str) -> Any:
    """The plainest value that fits the keywords of structured output; `text` fills its strings.

    Knows type, properties, items, enum, const, anyOf, oneOf, allOf, $ref within the document, and
    the bounds of numbers, lengths and lists. Not pattern, format or not.
    """
    return _Builder(schema, text).value(schema, 0)


class _Builder:
    """Holds what every level needs: the document that $ref points into, and the text."""

    def __init__(self, document: Mapping[Any, Any], text: str) -> None:
        self._document = document
        self._text = text

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > _TOO_DEEP:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if "$ref" in schema:
            return self.value(self._referred(str(schema["$ref"])), depth + 1)
        for name in ("anyOf", "oneOf", "allOf"):
            if schema.get(name):
                return self.value(self._chosen(name, schema), depth + 1)
        return self._by_type(schema, depth)

    def _chosen(self, name: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The first alternative, or what all parts of allOf say together."""
        parts = schema[name] if name == "allOf" else schema[name][:1]
        rest = {key: value for key, value in schema.items() if key != name}
        for part in parts:
            resolved = (self._referred(part["$ref"]) or {}) if "$ref" in part else part
            properties = {**rest.get("properties", {}), **resolved.get("properties", {})}
            rest = {**rest, **resolved, **({"properties": properties} if properties else {})}
        return rest

    def _referred(self, reference: str) -> Any:
        """The part of the document that a reference such as #/$defs/item names."""
        node: Any = self._document
        for part in reference.removeprefix("#").split("/")[1:]:
            node = node.get(part.replace("~1", "/").replace("~0", "~"))
            if not isinstance(node, Mapping):
                return None
        return node

    def _by_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                wanted = 0 if depth > _DEEP else min(1, schema.get("maxItems", 1))
                count = max(schema.get("minItems", 0), wanted)
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
        return self._string(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        names = schema.get("required", []) if depth > _DEEP else properties
        return {name: self.value(properties.get(name), depth + 1) for name in names}

    def _string(self, schema: Mapping[str, Any]) -> str:
        text = self._text.ljust(schema.get("minLength", 0), ".")
        return text[: schema.get("maxLength")]


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """The number within the bounds that is nearest to 1."""
    step = schema.get("multipleOf", 1 if whole else None)
    gap = step or 1e-6
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf) + gap)
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf) - gap)
    value = min(max(1, low), high)
    if step:
        value = math.ceil(value / step) * step
        value = value if value <= high else value - step
    return int(value) if whole else value
