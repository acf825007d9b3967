"""Which run a command works on: one that is unfinished, one that has ended, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptflow import __version__
from gptflow.data.survey import Survey, locate
from gptflow.errors import DataError, UsageError
from gptflow.pipeline.identity import digest_of
from gptflow.run.prepare import Prepared
from gptflow.store.records import RunDraft, RunRecord, RunStatus
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


def begin(
    store: Store, prepared: Prepared, output: Path, *, fresh: bool, retry: Retry | None
) -> Beginning:
    """Finds the run to go on with, or begins a new one with a row in the ledger for each row.

    A run is gone on with if it is the store's latest, would do the same with each row (the
    plan's digest), and has the same rows. Everything else is a new run, which takes over what
    earlier ones have done.

    Raises:
        DataError: a record is broken, or two rows have the same id.
        UsageError: there is nothing to retry.
    """
    latest = store.reader.latest_run()
    if fresh or latest is None or not _same_work(latest, prepared):
        latest = None
    if latest is not None and not _same_rows(store, latest, prepared):
        latest = None
    if latest is not None:
        return Beginning(latest, is_new=False, retried_rows=_retry(store, latest, retry))
    if retry is not None:
        raise UsageError(
            f"there is no run of {prepared.spec.name!r} with this spec and this data to retry",
            hint="run it first, without --retry",
        )
    return _new_run(store, prepared, output, fresh=fresh)


def _same_work(latest: RunRecord, prepared: Prepared) -> bool:
    return latest.plan_digest == prepared.plan.digest and latest.server == prepared.choice.name


def _same_rows(store: Store, latest: RunRecord, prepared: Prepared) -> bool:
    """Whether the source has the rows of a run. Files that were not touched are not read again."""
    fingerprint = source_fingerprint(prepared)
    if latest.source_fingerprint == fingerprint:
        return True
    survey = Survey(prepared.selection)
    for _ in survey:
        pass
    if survey.ledger_digest != latest.ledger_digest:
        return False
    store.update_run(latest.run_id, source_fingerprint=fingerprint)
    return True


def source_fingerprint(prepared: Prepared) -> str:
    """What says, without reading the source, that its rows are those of an earlier look."""
    select = prepared.spec.source.model_dump(include={"id", "where", "limit", "sample"})
    return digest_of([prepared.source.fingerprint(), select])


def _retry(store: Store, run: RunRecord, retry: Retry | None) -> int:
    if retry is None:
        return 0
    if retry == "failed":
        return store.retry_failed(run.run_id)
    return store.retry_truncated(run.run_id)


def _new_run(store: Store, prepared: Prepared, output: Path, *, fresh: bool) -> Beginning:
    survey = Survey(prepared.selection)
    draft = RunDraft(
        name=prepared.spec.name,
        plan_digest=prepared.plan.digest,
        source_fingerprint=source_fingerprint(prepared),
        spec=prepared.spec.origin.text,
        spec_file=str(prepared.spec.origin.file),
        server=prepared.choice.name,
        fresh=fresh,
        output=str(output),
        version=__version__,
    )
    run = store.begin_run(draft, survey)
    if prepared.spec.source.id_columns:
        _refuse_duplicates(store, run, prepared)
    run = store.update_run(run.run_id, columns=survey.columns, status=RunStatus.RUNNING)
    reused = 0 if fresh else store.reuse_rows(run.run_id)
    return Beginning(run, is_new=True, reused_rows=reused)


def _refuse_duplicates(store: Store, run: RunRecord, prepared: Prepared) -> None:
    duplicates = store.reader.duplicate_keys(run.run_id, DUPLICATES_SHOWN)
    if not duplicates:
        return
    store.delete_run(run.run_id)
    lines = []
    for _, records in duplicates:
        places = [f"{file}:{line}" for file, line in locate(prepared.source, records[:2])]
        lines.append(f"  {places[1]} has the id of {places[0]}")
    columns = ", ".join(prepared.spec.source.id_columns)
    raise DataError(
        f"the column(s) {columns} do not identify a row:\n" + "\n".join(lines),
        hint="mend the data, add a column to source.id, or leave id out: then the whole row is it",
    )
