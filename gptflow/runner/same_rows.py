"""The rows of a source against those of the latest run: read once, compared as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from gptflow.data.survey import Survey
from gptflow.pipeline.identity import digest_of
from gptflow.runner.prepare import Prepared
from gptflow.store.ledger import CHUNK
from gptflow.store.reader import StoreReader
from gptflow.store.record import LedgerRow, RunRecord
from gptflow.store.reuse import SharedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRows:
    """The rows of a source: those that it has in common with the latest run, and the rest."""

    fingerprint: str
    """Of the source before it was read: while it stays the same, these are its rows."""
    shared: SharedRows | None = None
    """The rows that both begin with; None where there is no earlier run."""
    are_the_run_s: bool = False
    """Whether the run has these rows and no others."""
    rest: Iterable[LedgerRow] = ()
    """The rows behind the shared ones. Read lazily; what it raises is what `read_rows` raises."""
    columns: Callable[[], list[str]]
    """The columns of all rows, once `rest` has been gone through."""


def is_same_work(run: RunRecord, prepared: Prepared) -> bool:
    """Whether the run would do the same with each row."""
    return run.plan_digest == prepared.plan.digest


def read_rows(prepared: Prepared, reader: StoreReader, run: RunRecord | None) -> SourceRows:
    """Reads the source as far as its rows are those of the run.

    A source that nobody has touched is not read again.

    Raises:
        DataError: a record is broken, or lacks an id column.
    """
    fingerprint = _fingerprint(prepared)
    if run is None:
        survey = Survey(prepared.source, prepared.selection)
        rest = chain.from_iterable(survey.batches())
        return SourceRows(fingerprint=fingerprint, rest=rest, columns=lambda: survey.columns)
    if run.source_fingerprint == fingerprint and _has_same_where(run, prepared):
        return _untouched(prepared, reader, run)
    return _compared(prepared, reader, run, fingerprint)


def _fingerprint(prepared: Prepared) -> str:
    """Says, without reading the source, that its rows are those of an earlier look."""
    select = prepared.spec.source.model_dump(include={"id", "where", "limit", "sample"})
    return digest_of([prepared.source.fingerprint(), select])


def _has_same_where(run: RunRecord, prepared: Prepared) -> bool:
    """Whether the same text of `where` lets the same rows through: it may hang on the vars."""
    return is_same_work(run, prepared) or prepared.spec.source.where is None


def _untouched(prepared: Prepared, reader: StoreReader, run: RunRecord) -> SourceRows:
    """The rows of the run, which its ledger tells."""
    shared = SharedRows(run.run_id, same_work=is_same_work(run, prepared))
    while not shared.same_work and (known := reader.ledger(run.run_id, shared.digest.rows, CHUNK)):
        shared.digest.add(known)
    return SourceRows(
        fingerprint=run.source_fingerprint,
        shared=shared,
        are_the_run_s=True,
        columns=lambda: list(run.columns),
    )


def _compared(
    prepared: Prepared, reader: StoreReader, run: RunRecord, fingerprint: str
) -> SourceRows:
    """The rows of the source, read up to the first batch that the run has not."""
    survey = Survey(prepared.source, prepared.selection)
    shared = SharedRows(run.run_id, same_work=is_same_work(run, prepared))
    batches = survey.batches(CHUNK)
    rest: Iterable[LedgerRow] = ()
    for batch in batches:
        if batch != reader.ledger(run.run_id, shared.digest.rows, len(batch)):
            rest = chain(batch, chain.from_iterable(batches))
            break
        shared.digest.add(batch)
    return SourceRows(
        fingerprint=fingerprint,
        shared=shared,
        are_the_run_s=shared.digest.rows == run.rows and survey.selected == run.rows,
        rest=rest,
        columns=lambda: survey.columns,
    )
