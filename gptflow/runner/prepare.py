"""Preparing: everything that is checked before a run touches the store or asks anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from gptflow.data.replay import replay
from gptflow.data.selection import Selection
from gptflow.data.sources.source import Source, first_columns, open_source
from gptflow.data.survey import Survey
from gptflow.engine.config import Config
from gptflow.errors import DataError, MissingExtra, SpecError, UsageError
from gptflow.files import real
from gptflow.pipeline.compile import compile_plan
from gptflow.pipeline.hooks_of_spec import Hooks, load_hooks
from gptflow.pipeline.plan import Plan
from gptflow.records import Row
from gptflow.runner.price import Prices, unpriced
from gptflow.runner.python import NO_PYTHON, Python, transformed
from gptflow.runner.server import MOCK, ServerChoice
from gptflow.spec.companion import companions, simulated_path
from gptflow.spec.load import Draft, read_spec
from gptflow.spec.model import Spec
from gptflow.spec.paths import resolve_output, resolve_source

STORE_FOLDER = Path(".gptflow")
"""Where stores lie, in the working directory."""

ROWS_LOOKED_AT = 100
"""The columns of a source are those of so many rows, when templates are checked."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A spec that was checked and compiled, with its source at hand."""

    spec: Spec
    plan: Plan
    source: Source
    choice: ServerChoice
    config: Config | None
    """The keys; None where a simulator or a local model answers, or nothing is to be asked."""

    @property
    def selection(self) -> Selection:
        """The rows of the source that the spec wants."""
        return Selection.of(self.spec.source, self.plan.where)

    @property
    def output(self) -> Path:
        """The file for the finished rows. Simulated rows never take the place of real ones."""
        path = resolve_output(self.spec)
        if self.choice.name == MOCK:
            return simulated_path(path)
        return path

    def store_path(self, chosen: Path | None) -> Path:
        """The file of the store.

        Raises:
            UsageError: it is a file that the run would write over.
        """
        path = chosen or STORE_FOLDER / f"{self.spec.name}.db"
        if chosen is None and path.is_symlink():
            raise UsageError(
                f"{path} is a link, and the store would be where it leads",
                hint=f"if that is meant, say --store {path}",
            )
        if real(path) in (self.output, *companions(self.output)):
            raise UsageError(
                f"{path} cannot be the store: the output goes there", hint="choose another --store"
            )
        return path

    def rows(self, first: int, last: int) -> Iterator[Row]:
        """The rows of a run from position `first` up to `last`; for looking, not for running.

        Raises:
            DataError: a record on the way to them is broken, or lacks an id column.
        """
        selection = self.selection
        surveyed = chain.from_iterable(Survey(self.source, selection).batches(ROWS_LOOKED_AT))
        wanted = ((*entry, 0) for entry in islice(surveyed, first, last))
        return replay(self.source, wanted, selection.id_columns)


def prepare(
    spec: Spec | str | Path,
    choice: ServerChoice | None = None,
    *,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    stdin: BinaryIO | None = None,
    python: Python = NO_PYTHON,
) -> Prepared:
    """Reads, checks and compiles a spec.

    No request is sent, and nothing is written but a copy of standard input, where that is the
    source.

    Args:
        spec: a file, or what was read from one before.
        choice: who is to answer; None where nothing will be asked.
        overrides: as `--set` takes them, "path=value".
        values: the same from Python, by path.
        stdin: read in place of standard input.
        python: which of the user's functions the spec may name, and who is told of them.

    Raises:
        SpecError: with every problem of the file, in its order.
        DataError: the first rows of the source cannot be read.
        MissingExtra: reading them needs a package that is not installed.
        ConfigError: there are no keys, or their file is wrong.
    """
    draft = (
        Draft(spec, [])
        if isinstance(spec, Spec)
        else read_spec(spec, overrides=overrides, values=values, environ=os.environ)
    )
    if draft.spec is None:
        raise SpecError(draft.problems)
    hooks = load_hooks(draft.spec, python.access, python.announce)
    source, columns = _source(draft, hooks, stdin)
    server, known = choice.name if choice else "", draft.problems
    if not (choice and choice.local):
        known = [*known, *unpriced(draft.spec, Prices(draft.spec.limits.prices))]
    plan = compile_plan(
        draft.spec,
        columns=columns,
        server=server,
        known=known,
        access=python.access,
        hooks=hooks,
    )
    assert source is not None  # a source that cannot be opened is a problem, or was raised
    config = choice.find_config(os.environ) if choice and _wants_keys(choice, plan) else None
    prepared = Prepared(draft.spec, plan, source, choice or ServerChoice(), config)
    _keep_keys_apart(prepared)
    return prepared


def _wants_keys(choice: ServerChoice, plan: Plan) -> bool:
    """Whether who answers has to be known: a spec of functions alone may ask nobody."""
    is_named = choice.mock or choice.local or choice.config is not None
    return is_named or any(step.may_ask for step in plan.steps)


def _keep_keys_apart(prepared: Prepared) -> None:
    """No file of keys is read as data or written over; the spec's checks know ./config.json."""
    path = prepared.config.path if prepared.config else None
    written = (prepared.output, *companions(prepared.output))
    if path and real(path) in [real(other) for other in (*resolve_source(prepared.spec), *written)]:
        raise UsageError(
            f"{path} holds the keys: it can be neither source nor output",
            hint="name another file in the spec",
        )


def _source(
    draft: Draft, hooks: Hooks, stdin: BinaryIO | None
) -> tuple[Source | None, list[str] | None]:
    """The source and its columns; where the spec has problems already, as far as it goes."""
    if draft.spec is None or not draft.knows_source:
        return None, None
    try:
        source = open_source(draft.spec, spool_folder=STORE_FOLDER / "stdin", stdin=stdin)
        if draft.spec.source.transform is not None:
            transform = hooks.at("source", "transform")
            if transform is None:
                return source, None  # which is a problem that is reported
            source = transformed(source, transform)
        return source, first_columns(source, ROWS_LOOKED_AT) or None
    except (DataError, MissingExtra):
        if draft.problems:
            return None, None
        raise
