"""The extractor `schema`: a JSON value that a JSON Schema accepts.

Two libraries share the work, because the check is made for every row: jsonschema-rs, compiled,
says whether a value is valid (0.3 us where jsonschema takes 15 to 120, and its regular expressions
cannot run away); jsonschema, loaded when the first invalid reply comes, says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.invalid import BadExtractor, Invalid, listed
from gptflow.pipeline.extract.json_path import written
from gptflow.pipeline.extract.reply_text import ReplyText
from gptflow.pipeline.extract.schema_node import is_strict, nodes, resolved

MOST_SHOWN = 200
"""Characters of a complaint."""


class FromSchema:
    """Gives the properties of the schema's object as fields, or any other value as one field.

    A property that is not required and not there is null. A property of the reply that the
    schema allows but does not name is left out.
    """

    def __init__(self, schema: dict[str, Any], conversion: Conversion) -> None:
        self.schema = schema
        self.conversion = conversion
        _refuse_remote(schema)
        self._is_valid = _compiled(schema).is_valid
        root = resolved(schema, schema)
        properties: dict[str, Any] = root.get("properties", {})
        self._wanted = {"object": dict, "array": list}.get(str(root.get("type")))
        self.spreads = bool(properties) and root.get("type", "object") == "object"
        """Whether the properties become fields."""
        if self.spreads:
            self._wanted = dict
            _refuse_conversion(conversion)
        self.fields: tuple[str, ...] = tuple(properties) if self.spreads else (conversion.name,)

    def __reduce__(self) -> tuple[type[FromSchema], tuple[dict[str, Any], Conversion]]:
        """Travel as what it was built from: a compiled validator cannot be pickled."""
        return FromSchema, (self.schema, self.conversion)

    def extract(self, reply: ReplyText) -> dict[str, Any]:
        """The fields' values."""
        value = reply.json_value(self._wanted)
        try:
            if not self._is_valid(value):
                raise Invalid(_complaint(self.schema, value))
        except (ValueError, RecursionError):  # jsonschema-rs's own limit of depth is a ValueError
            raise Invalid("the JSON in the reply is nested too deeply") from None
        if not self.spreads:
            return {self.fields[0]: self.conversion(value)}
        if not isinstance(value, dict):  # the schema names properties but not the type object
            raise Invalid("the JSON value is not an object")
        return {name: value.get(name) for name in self.fields}

    def wants(self) -> str:
        """What a valid reply is."""
        if self.spreads:
            return f"a JSON object with the keys {listed(list(self.fields))} that fits its schema"
        return f"a JSON value that fits the schema of {self.fields[0]}"

    def response_format(self) -> dict[str, Any]:
        """The `response_format` of a chat completion that asks the server for such a value.

        `strict` is set only where the schema keeps the rules that OpenAI has for it: a strict
        request with any other schema is refused, while one without is answered.
        """
        json_schema: dict[str, Any] = {"name": self.conversion.name[:64], "schema": self.schema}
        if is_strict(self.schema):
            json_schema["strict"] = True
        return {"type": "json_schema", "json_schema": json_schema}


def _refuse_remote(schema: dict[str, Any]) -> None:
    """Refuse what would have to be fetched: checking a spec or a reply makes no requests."""
    for path, node in nodes(schema):
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            target = node.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                raise BadExtractor(
                    f"the schema refers to {target!r}, outside of itself",
                    "schema",
                    path=(*path, key),
                    hint='put that schema under $defs and refer to it as "#/$defs/NAME"',
                )


def _refuse_conversion(conversion: Conversion) -> None:
    for key, value in (("type", conversion.type), ("one_of", conversion.labels)):
        if value is not None:
            raise BadExtractor(
                f"`{key}` does not go with a schema whose properties become fields",
                key,
                hint="say it in the schema: type and enum",
            )


def _compiled(schema: dict[str, Any]) -> Any:
    import jsonschema_rs

    try:
        # format is a note and no assertion, as the drafts have it since 2019-09.
        return jsonschema_rs.validator_for(schema, validate_formats=False, offline=True)
    except jsonschema_rs.ValidationError as error:
        path = tuple(error.instance_path)
        place = f" at {written(path)}" if path else ""
        message = f"the JSON Schema is not valid{place}: {error.message}"
        raise BadExtractor(message, "schema", path=path) from None
    except ValueError as error:  # a key that is not text, a value that JSON does not have
        raise BadExtractor(f"the JSON Schema is not valid: {error}", "schema") from None


def _complaint(schema: dict[str, Any], value: Any) -> str:
    """What is wrong with an invalid value: the most telling error, with its place."""
    import jsonschema_rs
    from jsonschema import Draft202012Validator, ValidationError, validators
    from jsonschema.exceptions import best_match

    def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        # jsonschema would use `re`, which a pattern can keep busy for hours.
        if not jsonschema_rs.is_valid({"pattern": wanted}, instance):
            yield ValidationError(f"{instance!r} does not match {wanted!r}")

    error: Any = None
    if b'"patternProperties"' not in msgspec.json.encode(schema):  # for the same reason
        standard = validators.validator_for(schema, default=Draft202012Validator)
        explaining = validators.extend(standard, {"pattern": pattern})  # type: ignore[no-untyped-call]  # types-jsonschema leaves it untyped
        error = best_match(explaining(schema).iter_errors(value))
    if error is not None:
        return _placed(tuple(error.absolute_path), error.message)
    compiled = next(iter(_compiled(schema).iter_errors(value)))
    return _placed(tuple(compiled.instance_path), compiled.message)


def _placed(path: tuple[str | int, ...], message: str) -> str:
    # Both libraries put the value first, however long, and what is wrong with it last.
    short = message if len(message) <= MOST_SHOWN else f"{message[:80]} ... {message[-120:]}"
    short = " ".join(short.split())
    return f"{written(path)}: {short}" if path else f"the JSON does not fit its schema: {short}"
