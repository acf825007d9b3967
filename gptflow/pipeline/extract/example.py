"""Writes replies that the extractors of a step accept, for rehearsals without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gptflow.pipeline.extract.choice import FromChoice
from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.extractor import Extractor, extract_all
from gptflow.pipeline.extract.invalid import Invalid
from gptflow.pipeline.extract.json_path import planted
from gptflow.pipeline.extract.json_value import FromJson
from gptflow.pipeline.extract.python import FromPython
from gptflow.pipeline.extract.regex import FromRegex
from gptflow.pipeline.extract.regex_example import matching_text
from gptflow.pipeline.extract.schema import FromSchema
from gptflow.pipeline.extract.schema_example import example_value
from gptflow.pipeline.extract.text import FromText


def example_reply(extractors: Sequence[Extractor], pick: int) -> str | None:
    """A reply that all the extractors accept together; another for another pick.

    None if none could be made, as for a regular expression of great subtlety, or for two
    extractors that ask for different whole replies. What a function of the user's accepts nobody
    knows: it is not called for this.
    """
    known = [extractor for extractor in extractors if not isinstance(extractor, FromPython)]
    for text in _candidates(extractors, pick):
        try:
            extract_all(known, text)
        except Invalid:
            continue
        return text
    return None


def _candidates(extractors: Sequence[Extractor], pick: int) -> Iterator[str]:
    parts = dict.fromkeys(_json_parts(extractors, pick))
    parts |= dict.fromkeys(_text_parts(extractors, pick))
    if parts:
        yield "\n".join(parts)
    yield from parts
    yield f"Example reply {pick}."


def _json_parts(extractors: Sequence[Extractor], pick: int) -> Iterator[str]:
    """One JSON value for all that read JSON."""
    tree: Any = None
    for extractor in extractors:
        if isinstance(extractor, FromSchema) and tree is None:
            tree = example_value(extractor.schema, extractor.schema, pick)
    paths = [extractor for extractor in extractors if isinstance(extractor, FromJson)]
    # The longest first: `a.b` makes the object that a plain `a` then takes.
    for extractor in sorted(paths, key=lambda path: len(path.parts), reverse=True):
        tree = planted(tree, extractor.parts, _value(extractor.conversion, pick))
    if paths or any(isinstance(extractor, FromSchema) for extractor in extractors):
        yield _json(tree)


def _text_parts(extractors: Sequence[Extractor], pick: int) -> Iterator[str]:
    for extractor in extractors:
        if isinstance(extractor, FromChoice):
            yield extractor.labels.labels[pick % len(extractor.labels.labels)]
        elif isinstance(extractor, FromText | FromPython) and extractor.conversion.wants():
            value = _value(extractor.conversion, pick)
            yield value if isinstance(value, str) else _json(value)
        elif isinstance(extractor, FromRegex):
            wanted = _value(extractor.conversion, pick)
            wanted = wanted[0] if isinstance(wanted, list) and extractor.conversion.each else wanted
            given = wanted if isinstance(wanted, str) else _json(wanted)
            free = not extractor.conversion.wants()
            yield matching_text(
                extractor.pattern.pattern, extractor.group, None if free else given, pick
            )


def _value(conversion: Conversion, pick: int) -> Any:
    """A value that the conversion accepts."""
    value: Any = f"example {pick % 100}"
    if conversion.labels:
        value = conversion.labels.labels[pick % len(conversion.labels.labels)]
        return [value] if conversion.type == "list" else value
    match conversion.type:
        case "int":
            value = pick % 10
        case "float":
            value = pick % 10 / 10
        case "bool":
            value = pick % 2 == 0
        case "list":
            value = [value]
        case "dict":
            value = {"example": value}
    return value


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
