"""Names that two things bear, and columns that a spec names but the source does not have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gptflow.pipeline.extract.invalid import listed
from gptflow.pipeline.names import NAMESPACES
from gptflow.spec.model import Spec
from gptflow.spec.origin import KeyPath
from gptflow.spec.problems import Problem, did_you_mean

FieldAt = tuple[str, KeyPath]
"""A field, and the extractor in the spec that gives it, or its place in a step's `fields`."""


def name_problems(
    spec: Spec, columns: Sequence[str] | None, fields: Sequence[FieldAt]
) -> Iterator[Problem]:
    """What is wrong with the names of a spec, seen beside those of its source.

    `columns` is None where the source's are not known; then nothing is said of them.
    """
    yield from _clashes(spec, columns or (), fields)
    yield from _namespaces(spec, columns or (), fields)
    if columns is not None:
        yield from _missing(spec, columns, [name for name, _ in fields])


def _clashes(spec: Spec, columns: Sequence[str], fields: Sequence[FieldAt]) -> Iterator[Problem]:
    """A name that two things bear would mean one of them, and nobody could say which."""
    owners = dict.fromkeys(columns, "a column of the source")
    for name in spec.vars:
        if name in owners:
            yield _clash(spec, "var", name, ("vars", name), owners[name])
        owners[name] = "a var"
    for name, path in fields:
        declared = path[-1] if isinstance(path[-1], str) else name
        if name in owners and owners[name] != declared:
            yield _clash(spec, "field", name, path, owners[name])
        # Two extractors of one name are for the loader to report, who sees the whole file.
        owners.setdefault(name, declared if declared == name else f"a field of {declared!r}")


def _clash(spec: Spec, kind: str, name: str, path: KeyPath, owner: str) -> Problem:
    owner = "another field" if owner == name else owner
    message = f"{kind} {name!r} has the name of {owner}"
    return Problem(message, spec.origin.place(path, key=True), f"give the {kind} another name")


def _namespaces(spec: Spec, columns: Sequence[str], fields: Sequence[FieldAt]) -> Iterator[Problem]:
    for name in NAMESPACES:
        if name in columns:
            yield Problem(
                f"the source has a column {name!r}, which templates use as a namespace",
                spec.origin.place(("source",)),
                f"templates see the column as row.{name}; rename it in the data",
            )
    for name, path in fields:
        if (
            name in NAMESPACES and path[-2] == "extract" and path[-1] != name
        ):  # else the loader reports it
            yield Problem(
                f"the schema of {path[-1]!r} gives a field {name!r}, a namespace of templates",
                spec.origin.place(path, key=True),
                "give the property another name",
            )


def _missing(spec: Spec, columns: Sequence[str], fields: Sequence[str]) -> Iterator[Problem]:
    for name in spec.source.id_columns:
        if name not in columns:
            place = spec.origin.place(("source", "id"))
            message = f"the source has no column {name!r} (source.id)"
            yield Problem(message, place, f"it has {listed(list(columns))}")
    known = (*columns, *fields)
    for index, name in enumerate(spec.output.columns or ()):
        if name not in known:
            place = spec.origin.place(("output", "columns", index))
            message = f"no column or field is named {name!r} (output.columns)"
            meant = did_you_mean(name, known)
            hint = f"did you mean {meant!r}?" if meant else f"there are {listed(list(known))}"
            yield Problem(message, place, hint)
