"""Which run a command works on: one that is unfinished, one that has ended, or a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gptflow import __version__
from gptflow.data.key import IDENTITY_BYTES
from gptflow.data.sources.source import locate
from gptflow.errors import DataError, UsageError
from gptflow.pipeline.names import NAMESPACES
from gptflow.runner.prepare import Prepared
from gptflow.runner.same_rows import SourceRows, is_same_work, read_rows
from gptflow.store.record import RunDraft, RunRecord, RunStatus, Surveyed
from gptflow.store.run import RunChange
from gptflow.store.store import Store

Retry = Literal["failed", "truncated"]
DUPLICATES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Beginning:
    """The run that a command works on."""

    run: RunRecord
    is_new: bool
    reused_rows: int = 0
    """Rows whose results were taken over from earlier runs."""
    retried_rows: int = 0
    """Rows that `--retry` has put back to pending."""


def begin(store: Store, prepared: Prepared, *, fresh: bool, retry: Retry | None) -> Beginning:
    """Finds the run to go on with, or begins a new one with a row in the ledger for each row.

    A run is gone on with if it is the latest of its server, would do the same with each row (the
    plan's digest), and has the same rows. Everything else is a new run, which takes over what
    earlier ones have done.

    Raises:
        DataError: a record is broken, or two rows have the same id.
        UsageError: there is nothing to retry.
    """
    latest = None if fresh else store.reader.latest_run(prepared.choice.name)
    rows = read_rows(prepared, store.reader, latest)
    if latest is not None and rows.are_the_run_s and is_same_work(latest, prepared):
        return _go_on(store, latest, prepared, rows, retry)
    if retry is not None:
        raise UsageError(
            f"there is no run of {prepared.spec.name!r} with this spec and this data to retry",
            hint="run it without --retry first",
        )
    return _new_run(store, prepared, rows, fresh=fresh, since_run=_since_run(latest))


def _since_run(latest: RunRecord | None) -> int:
    """What a new run may not look behind: a fresh run that did not end still wants new answers."""
    return 0 if latest is None or latest.status is RunStatus.FINISHED else latest.since_run


def _go_on(
    store: Store, run: RunRecord, prepared: Prepared, rows: SourceRows, retry: Retry | None
) -> Beginning:
    retried = 0
    if retry == "failed":
        retried = store.retry_failed(run.run_id)
    elif retry == "truncated":
        retried = store.retry_truncated(run.run_id)
    change = RunChange(
        status=RunStatus.RUNNING if store.reader.counts(run.run_id).pending else None,
        source_fingerprint=rows.fingerprint,
        spec=prepared.spec.origin.as_run,
    )
    run = store.update_run(run.run_id, change)
    return Beginning(run, is_new=False, retried_rows=retried)


def _new_run(
    store: Store, prepared: Prepared, rows: SourceRows, *, fresh: bool, since_run: int
) -> Beginning:
    draft = RunDraft(
        name=prepared.spec.name,
        plan_digest=prepared.plan.digest,
        source_fingerprint=rows.fingerprint,
        spec=prepared.spec.origin.as_run,
        spec_file=prepared.spec.origin.file,
        server=prepared.choice.name,
        fresh=fresh,
        since_run=since_run,
        output=str(prepared.output),
        fields=prepared.plan.fields,
        version=__version__,
    )

    def survey(run_id: int) -> Surveyed:
        surveyed = rows.surveyed()
        _refuse_clashes(surveyed.columns, prepared)
        if prepared.spec.source.id_columns:
            _refuse_duplicates(store, run_id, prepared)
        return surveyed

    run = store.begin_run(draft, rows.rest, survey, rows.shared)
    store.reuse_rows(run.run_id)
    return Beginning(run, is_new=True, reused_rows=store.reader.counts(run.run_id).done)


def _refuse_clashes(columns: Sequence[str], prepared: Prepared) -> None:
    """A column may first turn up deep in the file, where the check of the spec did not look."""
    for name in (*prepared.plan.fields, *prepared.plan.vars):
        if name in columns:
            raise DataError(
                f"a row of the source has a column {name!r}, which is also a field or var",
                hint="give the field or var another name",
            )
    for name in NAMESPACES:
        if name in columns:
            raise DataError(
                f"a row of the source has a column {name!r}, which templates use as a namespace",
                hint=f"templates see the column as row.{name}; rename it in the data",
            )


def _refuse_duplicates(store: Store, run_id: int, prepared: Prepared) -> None:
    """Before the run counts as one: a kill in here must not leave one that was never looked at."""
    duplicates = store.reader.duplicate_keys(run_id, DUPLICATES_SHOWN, key_bytes=IDENTITY_BYTES)
    if not duplicates:
        return
    lines = []
    for duplicate in duplicates:
        places = locate(prepared.source, duplicate.records[:2])
        (first, first_line), (second, second_line) = places
        lines.append(f"  {second}:{second_line} has the id of {first}:{first_line}")
    columns = ", ".join(prepared.spec.source.id_columns)
    raise DataError(
        f"{columns} does not identify a row (source.id):\n" + "\n".join(lines),
        hint="mend the data, add a column to source.id, or leave id out: then the whole row counts",
    )
