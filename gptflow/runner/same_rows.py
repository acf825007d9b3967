"""The rows of a source against those of the latest run: read once, compared as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from gptflow import __version__
from gptflow.data.sources.grown import GrownFile
from gptflow.data.survey import Survey
from gptflow.pipeline.identity import digest_of
from gptflow.runner.prepare import Prepared
from gptflow.store.ledger import CHUNK
from gptflow.store.reader import StoreReader
from gptflow.store.record import LedgerRow, RunRecord, Surveyed
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
    surveyed: Callable[[], Surveyed]
    """What is known of all rows, once `rest` has been gone through."""


def is_same_work(run: RunRecord, prepared: Prepared) -> bool:
    """Whether the run would do the same with each row."""
    return run.plan_digest == prepared.plan.digest


def read_rows(prepared: Prepared, reader: StoreReader, run: RunRecord | None) -> SourceRows:
    """Reads the source as far as its rows are those of the run.

    A source that nobody has touched is not read again; of one that has grown, what is new.

    Raises:
        DataError: a record is broken, or lacks an id column.
    """
    fingerprint = _fingerprint(prepared)
    if run is None:
        file = _one_file(prepared)
        survey = Survey(file or prepared.source, prepared.selection)
        rest = chain.from_iterable(survey.batches())
        return SourceRows(
            fingerprint=fingerprint, rest=rest, surveyed=lambda: _surveyed(survey, file)
        )
    if run.source_fingerprint == fingerprint and _has_same_where(run, prepared):
        untouched = _untouched(prepared, reader, run)
        if untouched is not None:
            return untouched
    return _compared(prepared, reader, run, fingerprint)


def _fingerprint(prepared: Prepared) -> str:
    """Says, without reading the source, that its rows are those of an earlier look."""
    select = prepared.spec.source.model_dump(include={"id", "where", "limit", "sample"})
    return digest_of([prepared.source.fingerprint(), select])


def _one_file(prepared: Prepared) -> GrownFile | None:
    """The source, if it is one file that may be known by its bytes: each record is a row."""
    source = prepared.spec.source
    if source.where is not None or source.limit is not None or source.sample is not None:
        return None
    return GrownFile.of(prepared.source, digest_of([__version__, list(source.id_columns)]))


def _surveyed(survey: Survey, file: GrownFile | None) -> Surveyed:
    return Surveyed(survey.columns, file.proof if file else "")


def _has_same_where(run: RunRecord, prepared: Prepared) -> bool:
    """Whether the same text of `where` lets the same rows through: it may hang on the vars."""
    return is_same_work(run, prepared) or prepared.spec.source.where is None


def _untouched(prepared: Prepared, reader: StoreReader, run: RunRecord) -> SourceRows | None:
    """The rows of the run, which its ledger tells; None where the store has lost some."""
    shared = (
        SharedRows(run.run_id, same_work=True)
        if is_same_work(run, prepared)
        else _ledger_of(run, reader, same_work=False)
    )
    if shared is None:
        return None
    return SourceRows(
        fingerprint=run.source_fingerprint,
        shared=shared,
        are_the_run_s=True,
        surveyed=lambda: Surveyed(run.columns, reader.source_proof(run.run_id)),
    )


def _compared(
    prepared: Prepared, reader: StoreReader, run: RunRecord, fingerprint: str
) -> SourceRows:
    """The rows of the source, read up to the first batch that the run has not."""
    file = _one_file(prepared)
    same_work, shared = is_same_work(run, prepared), None
    if file is not None and file.begins_with(reader.source_proof(run.run_id), run.rows):
        shared = _ledger_of(run, reader, same_work=same_work)
        file = file if shared else _one_file(prepared)
    survey = Survey(
        file or prepared.source,
        prepared.selection,
        rows=run.rows if shared else 0,
        columns=run.columns if shared else (),
    )
    shared = shared or SharedRows(run.run_id, same_work=same_work)
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
        surveyed=lambda: _surveyed(survey, file),
    )


def _ledger_of(run: RunRecord, reader: StoreReader, *, same_work: bool) -> SharedRows | None:
    """All rows of the run; None where the store is damaged, so that its word proves nothing."""
    shared = SharedRows(run.run_id, same_work=same_work)
    while chunk := reader.ledger(run.run_id, shared.digest.rows, CHUNK):
        if chunk[-1][0] + 1 != shared.digest.rows + len(chunk):
            return None
        shared.digest.add(chunk)
    return shared if shared.digest.hexdigest() == run.ledger_digest else None
