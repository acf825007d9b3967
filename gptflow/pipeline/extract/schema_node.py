"""Walks a JSON Schema: its subschemas, its local references, and OpenAI's rules for `strict`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

NodePath = tuple[str | int, ...]

_ONE = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_LISTS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_MAPPINGS = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)

STRICT_KEYWORDS = frozenset(
    {
        "$defs",
        "$ref",
        "$schema",
        "additionalProperties",
        "anyOf",
        "const",
        "definitions",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)
"""What OpenAI's strict mode takes:
https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"""


def nodes(schema: Any, path: NodePath = ()) -> Iterator[tuple[NodePath, dict[str, Any]]]:
    """The schema and all schemas in it, each with its path; data such as enum is left alone."""
    pending: list[tuple[NodePath, Any]] = [(path, schema)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        for key, value in node.items():
            if key in _MAPPINGS and isinstance(value, dict):
                pending += [((*path, key, name), inner) for name, inner in value.items()]
            elif key in _LISTS and isinstance(value, list):
                pending += [((*path, key, index), inner) for index, inner in enumerate(value)]
            elif key in _ONE:
                pending.append(((*path, key), value))


def resolved(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a node's local `$ref` points to; the node itself if it has none."""
    for _ in range(32):  # a chain of references may be a ring
        target = node.get("$ref")
        if not isinstance(target, str) or not target.startswith("#"):
            break
        found: Any = root
        for part in unquote(target[1:]).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            break
        node = found
    return node


def is_strict(schema: dict[str, Any]) -> bool:
    """Whether OpenAI takes the schema with `strict: true`.

    The root is an object and no anyOf; every object requires all its properties and allows no
    others; no keyword is used that strict mode does not know.
    """
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    return all(_is_strict_node(node) for _, node in nodes(schema))


def _is_strict_node(node: dict[str, Any]) -> bool:
    if not STRICT_KEYWORDS.issuperset(node):
        return False
    if node.get("type") != "object" and "properties" not in node:
        return True
    closed = node.get("additionalProperties") is False
    return closed and set(node.get("required", ())) == set(node.get("properties", {}))
