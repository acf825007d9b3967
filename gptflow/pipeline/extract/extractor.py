"""What an extractor is, how one is built from its spec, and how a reply goes through several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gptflow.pipeline.extract.choice import FromChoice
from gptflow.pipeline.extract.convert import Conversion
from gptflow.pipeline.extract.invalid import Invalid
from gptflow.pipeline.extract.json_path import Each, parse_path
from gptflow.pipeline.extract.json_value import FromJson
from gptflow.pipeline.extract.label import LabelSet
from gptflow.pipeline.extract.python import FromPython
from gptflow.pipeline.extract.regex import FromRegex
from gptflow.pipeline.extract.reply_text import ReplyText
from gptflow.pipeline.extract.schema import FromSchema
from gptflow.pipeline.extract.text import FromText
from gptflow.pipeline.hook import Hook
from gptflow.spec.extractor import (
    AnyExtractor,
    ChoiceExtractor,
    JsonExtractor,
    RegexExtractor,
    SchemaExtractor,
)


class Extractor(Protocol):
    """Turns a reply into fields. Without state that changes, and picklable."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields it gives, in order."""

    def extract(self, reply: ReplyText) -> dict[str, Any]:
        """The values of all its fields by name; raises Invalid if the reply does not give them."""

    def wants(self) -> str:
        """What a valid reply is, on one line, for asking again."""


def build(
    name: str,
    spec: AnyExtractor,
    labels: Sequence[str] | None = None,
    schema: dict[str, Any] | None = None,
    hook: Hook | None = None,
) -> Extractor:
    """The extractor that the spec's entry `name` describes.

    `labels` are those of `one_of` or `choice` and `schema` is that of `schema`, with templates
    rendered and files read; `hook` is that of `python`; None where the spec has none.

    Raises:
        BadExtractor: it cannot work as it is written; names the key that is wrong.
    """
    if isinstance(spec, ChoiceExtractor):
        label_set = LabelSet(labels or (), "one_of" if spec.choice is True else "choice")
        return FromChoice(label_set, Conversion(name, spec.type, label_set))
    one_of = None if labels is None else LabelSet(labels, "one_of")
    if isinstance(spec, RegexExtractor):
        return FromRegex(spec, Conversion(name, spec.type, one_of, each=spec.all))
    if isinstance(spec, JsonExtractor):
        parts = () if spec.json_path is True else parse_path(spec.json_path)
        return FromJson(parts, Conversion(name, spec.type, one_of, each=Each() in parts))
    conversion = Conversion(name, spec.type, one_of)
    if hook is not None:
        return FromPython(hook, conversion)
    if isinstance(spec, SchemaExtractor):
        return FromSchema(spec.json_schema if schema is None else schema, conversion)
    return FromText(conversion)


def extract_all(
    extractors: Sequence[Extractor],
    text: str,
    *,
    patient: bool = True,
    row: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """The fields that all extractors of a step find in a reply, in the order of the spec.

    `row` gives the row that the reply is about, for the functions that take it.

    Raises:
        Invalid: at least one does not accept the reply; the message has every complaint once.
        TakesLong: not `patient`, and a search is not over in a moment.
        HookFault: a function failed.
    """
    reply = ReplyText(text, patient=patient, row=row)
    fields: dict[str, Any] = {}
    complaints: dict[str, None] = {}
    for extractor in extractors:
        try:
            fields.update(extractor.extract(reply))
        except Invalid as complaint:
            complaints[str(complaint)] = None
    if complaints:
        raise Invalid("; ".join(complaints))
    return fields


def wanted(extractors: Sequence[Extractor]) -> str:
    """What a reply must have for all extractors of a step to accept it, on one line."""
    return "; ".join(dict.fromkeys(extractor.wants() for extractor in extractors))
