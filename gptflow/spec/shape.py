"""Keys and types: what pydantic finds wrong with a spec's data, in a person's words.

pydantic reports each arm of a choice by itself and in its own terms. Here its errors only say
where something is wrong; what was expected there is read from the models' JSON Schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gptflow.spec.expectation import (
    Fragment,
    either,
    expected,
    found,
    fragment_at,
    is_extractor,
    known_keys,
)
from gptflow.spec.extractor import EXTRACTOR_KINDS
from gptflow.spec.model import Spec
from gptflow.spec.origin import KeyPath, Origin, value_at
from gptflow.spec.parameters import api_parameters
from gptflow.spec.problems import Place, Problem, did_you_mean
from gptflow.spec.scalar import resolve_plain

_SWITCH_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_MAIN_KEYS = {"source": "path", "model": "name", "output": "path"}
"""What a person means who writes `model: gpt-4o-mini`."""


@dataclass(frozen=True, slots=True)
class _Mistake:
    """What pydantic found, by the data's own path."""

    kind: Literal["wrong", "unknown", "missing", "key name", "extractor", "rule"]
    path: KeyPath
    """For a missing or unknown key: with that key at the end."""
    rule: str = ""
    """What a rule of the model says."""
    hint: str | None = None
    """What it advises: the note of its exception."""


def shape_problems(error: ValidationError, data: Any, origin: Origin) -> list[Problem]:
    """The problems behind a validation error, one for each place."""
    mistakes = dict.fromkeys(_mistake(details, data) for details in error.errors())
    parents = {mistake.path[:depth] for mistake in mistakes for depth in range(len(mistake.path))}
    # A choice that fails as a whole and inside of one arm is wrong inside: that arm was meant.
    told = [
        mistake for mistake in mistakes if mistake.kind != "wrong" or mistake.path not in parents
    ]
    teller = _Teller(data, origin, Spec.model_json_schema())
    guessed = {(*m.path[:-1], teller.near_key(m.path)) for m in told if m.kind == "unknown"}
    return [
        teller.problem(mistake)
        for mistake in told
        if mistake.kind != "missing" or mistake.path not in guessed
    ]


def wrong_paths(error: ValidationError, data: Any) -> set[KeyPath]:
    """Where a value of another type is expected."""
    return {_mistake(details, data).path for details in error.errors()}


def _mistake(details: ErrorDetails, data: Any) -> _Mistake:
    location, kind = details["loc"], details["type"]
    if kind == "missing":
        return _Mistake("missing", (*_data_path(location[:-1], data), location[-1]))
    path = _data_path(location, data)
    if location[-1:] == ("[key]",):
        return _Mistake("key name", path)
    if kind == "value_error":
        error = details["ctx"]["error"]
        return _Mistake("rule", path, str(error), next(iter(getattr(error, "__notes__", [])), None))
    kinds: dict[str, Literal["unknown", "extractor"]] = {
        "extra_forbidden": "unknown",
        "extractor_kind": "extractor",
    }
    return _Mistake(kinds.get(kind, "wrong"), path)


def _data_path(location: tuple[int | str, ...], data: Any) -> KeyPath:
    """The path without pydantic's names for the arms of choices."""
    path: KeyPath = ()
    is_tag_due = False
    for part in location:
        is_tag = is_tag_due and part in EXTRACTOR_KINDS
        is_tag_due = False
        is_key = isinstance(data, dict) and part in data
        if not is_tag and (is_key or (isinstance(data, list) and isinstance(part, int))):
            data, path = data[part], (*path, part)
            is_tag_due = is_extractor(path)
    return path


class _Teller:
    """Puts mistakes into words."""

    def __init__(self, data: Any, origin: Origin, schema: Fragment) -> None:
        self._data = data
        self._origin = origin
        self._schema = schema

    def problem(self, mistake: _Mistake) -> Problem:
        path = mistake.path
        match mistake.kind:
            case "unknown":
                return Problem(f"unknown key '{path[-1]}'", self._key(path), self._known(path))
            case "missing":
                return self._missing(path)
            case "key name":
                hint = "a name has letters, digits and underscores, and no digit first"
                return Problem(f"'{path[-1]}' cannot be a name", self._key(path), hint)
            case "extractor":
                return self._extractor(path)
            case "rule":
                return Problem(mistake.rule, self._key(path), mistake.hint)
            case "wrong":
                return self._wrong(path)

    def near_key(self, path: KeyPath) -> str | None:
        return did_you_mean(str(path[-1]), known_keys(self._schema, self._data, path[:-1]))

    def _key(self, path: KeyPath) -> Place:
        return self._origin.place(path, key=True)

    def _known(self, path: KeyPath) -> str:
        """The hint for an unknown key: where it belongs, or what it may be a slip of."""
        name = str(path[-1])
        sections = [
            section
            for section in ("source", "model", "parallelism", "limits", "output")
            if name in self._schema["$defs"][_definition(self._schema, section)]["properties"]
            or (section == "model" and name in api_parameters())
        ]
        if len(path) == 1 and sections:
            return f"it belongs under {either(f'`{section}`' for section in sections)}"
        near = self.near_key(path)
        if near:
            return f"did you mean '{near}'?"
        return f"known here: {', '.join(known_keys(self._schema, self._data, path[:-1]))}"

    def _missing(self, path: KeyPath) -> Problem:
        fragment = fragment_at(self._schema, self._data, path)
        example = yaml.safe_dump(fragment["examples"][:1], default_flow_style=True, width=1000)
        return Problem(
            f"the key '{path[-1]}' is missing",
            self._key(path),
            f"add a line such as `{path[-1]}: {example.strip()[1:-1]}`",
        )

    def _extractor(self, path: KeyPath) -> Problem:
        value = value_at(self._data, path)
        forms = f"write `text`, or a mapping with {either(EXTRACTOR_KINDS[1:])}"
        if not isinstance(value, dict):
            near = did_you_mean(str(value), ["text"])
            hint = "did you mean 'text'?" if near else forms
            return Problem(f"expected an extractor, found {found(value)}", self._value(path), hint)
        kinds = [kind for kind in EXTRACTOR_KINDS if kind in value]
        if kinds:
            message = f"{' and '.join(kinds)} in one extractor"
            return Problem(message, self._key(path), "give each a field of its own")
        for key in value:
            near = did_you_mean(key, EXTRACTOR_KINDS)
            if near:
                hint = f"did you mean '{near}'?"
                return Problem(f"unknown key '{key}'", self._key((*path, key)), hint)
        return Problem("this extractor does not say what it takes", self._key(path), forms)

    def _wrong(self, path: KeyPath) -> Problem:
        value = value_at(self._data, path)
        fragment = fragment_at(self._schema, self._data, path)
        message = f"expected {expected(fragment)}, found {found(value)}"
        if "pattern" in fragment and isinstance(value, str):
            message = f"{found(value)} cannot be the {path[-1]}"
        return Problem(message, self._value(path), self._hint(path, value, fragment))

    def _value(self, path: KeyPath) -> Place:
        """The value's place; its key's where the value is empty or many lines long."""
        value = value_at(self._data, path)
        return self._origin.place(path, key=value is None or isinstance(value, dict | list))

    def _hint(self, path: KeyPath, value: object, fragment: Fragment) -> str | None:
        place, wanted = self._origin.place(path), expected(fragment)
        if isinstance(value, str):
            hint = _hint_for_text(path, value, fragment)
            if hint:
                return hint
        elif isinstance(value, bool | int | float) and wanted.startswith(("text", "some text")):
            written = place.text[place.column - 1 :][: place.length]
            return f'quote it: "{written}"'
        elif isinstance(value, float) and value.is_integer() and "whole number" in wanted:
            return f"write {int(value)}"
        elif isinstance(value, dict) and wanted.startswith("text"):
            return "quote it, if it is text with a colon and a space in it"
        if "required" in fragment:
            return f"it needs {' and '.join(fragment['required'])}"
        return fragment.get("description")


def _hint_for_text(path: KeyPath, value: str, fragment: Fragment) -> str | None:
    wanted = expected(fragment)
    if "true or false" in wanted and value.lower() in _SWITCH_WORDS:
        return f"write {_SWITCH_WORDS[value.lower()]}"
    if "number" in wanted and isinstance(resolve_plain(value), int | float):
        return f"write it without quotes: {value}"
    words = [word for word in wanted.split("'")[1::2] if word]
    near = did_you_mean(value, words)
    if near:
        return f"did you mean '{near}'?"
    if wanted == "a mapping" and path[-1] in _MAIN_KEYS:
        return f"write `{path[-1]}: {{{_MAIN_KEYS[str(path[-1])]}: {value}}}`"
    return None


def _definition(schema: Fragment, section: str) -> str:
    reference: str = schema["properties"][section]["$ref"]
    return reference.rsplit("/", 1)[1]
