"""Exporting: the done rows of any run, dead or alive, out of its store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gptflow.data.sinks.sink import open_sink, output_format_of
from gptflow.data.sinks.whole import WholeFile
from gptflow.errors import GptflowError, OutputError, UsageError
from gptflow.files import real
from gptflow.pipeline.extract.invalid import listed
from gptflow.records import RowStatus
from gptflow.spec.load import read_spec
from gptflow.spec.model import OutputFormat
from gptflow.spec.node import MapNode, Sheet, data_of
from gptflow.spec.origin import CHANGE_MARK
from gptflow.spec.overrides import apply_overrides
from gptflow.spec.paths import resolve_source
from gptflow.spec.yaml12 import read_yaml
from gptflow.store.reader import StoreReader
from gptflow.store.record import RunRecord


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to."""

    run: RunRecord
    rows: int
    """The done rows that it wrote."""


def export_rows(
    store: Path,
    stream: BinaryIO,
    output_format: OutputFormat,
    *,
    run_id: int | None = None,
    columns: tuple[str, ...] | None = None,
    csv_safe: bool | None = None,
) -> Exported:
    """Writes the done rows of a run, in input order, to a stream.

    Args:
        store: the store's file. A process that is writing it is not held up.
        stream: where the bytes go.
        output_format: one of jsonl, json, csv, parquet.
        run_id: the run; by default the latest that paid keys answered, or where there is none
            the latest of any.
        columns: columns and fields to write; by default all.
        csv_safe: whether a CSV is to hold no formulas; by default as the run's spec says.

    Raises:
        UsageError: there is no such run, or no row has such a column.
        MissingExtra: the format needs a package that is not installed.
        StoreError: the store cannot be read.
    """
    with StoreReader(store) as reader:
        run = _run(reader, run_id)
        known = (*run.columns, *run.fields)
        unknown = [name for name in columns or () if name not in known]
        if unknown:
            raise UsageError(
                f"run {run.run_id} has no column {unknown[0]!r}",
                hint=f"it has {listed(list(known))}",
            )
        is_safe = _wants_csv_safe(run) if csv_safe is None else csv_safe
        sink = open_sink(stream, output_format, columns=columns, known=known, csv_safe=is_safe)
        rows = 0
        for result in reader.results(run.run_id):
            if result.status is RowStatus.DONE:
                sink.write(result)
                rows += 1
        sink.finish()
        return Exported(run, rows)


def export_file(
    store: Path,
    output: Path,
    *,
    run_id: int | None = None,
    columns: tuple[str, ...] | None = None,
    csv_safe: bool | None = None,
) -> Exported:
    """Writes the done rows of a run to a file, which is whole or absent. As `export_rows`."""
    output_format = output_format_of(output)
    _refuse_source(store, output, run_id)
    with WholeFile(output) as file:
        try:
            exported = export_rows(
                store,
                file.stream,
                output_format,
                run_id=run_id,
                columns=columns,
                csv_safe=csv_safe,
            )
            file.commit()
        except OSError as error:
            file.abandon()
            raise OutputError.of(output, error) from error
        except GptflowError:
            file.abandon()
            raise
        return exported


def _refuse_source(store: Path, output: Path, run_id: int | None) -> None:
    """An export must not take the place of the data it came from, nor of the store."""
    with StoreReader(store) as reader:
        spec_file = Path(_run(reader, run_id).spec_file)
    spec = read_spec(spec_file).spec if spec_file.is_file() else None
    sources = resolve_source(spec) if spec is not None else []
    if real(output) in [real(path) for path in (store, *sources)]:
        raise UsageError(f"{output} is what the rows came from", hint="choose another file")


def _wants_csv_safe(run: RunRecord) -> bool:
    """What the spec of a run says, as it was then, with its --set.

    Where it does not say `false` itself, it is safe: what a variable said is not known any more.
    """
    tree, _ = read_yaml(Sheet("", run.spec))
    if not isinstance(tree, MapNode):
        return bool(run.spec)
    changes = (line for line in run.spec.splitlines() if line.startswith(CHANGE_MARK))
    apply_overrides(tree, [line.removeprefix(CHANGE_MARK) for line in changes])
    output = data_of(tree).get("output")
    return isinstance(output, dict) and output.get("csv_safe") not in (None, False)


def _run(reader: StoreReader, run_id: int | None) -> RunRecord:
    run = _latest_run(reader) if run_id is None else reader.run(run_id)
    if run is None:
        numbers = ", ".join(str(known.run_id) for known in reader.runs()) or "none"
        raise UsageError(
            "the store has no run" + (f" {run_id}" if run_id is not None else ""),
            hint=f"its runs: {numbers}",
        )
    return run


def _latest_run(reader: StoreReader) -> RunRecord | None:
    """A rehearsal after the real run must not put simulated rows in the place of real ones."""
    return reader.latest_run(server="") or reader.latest_run()
