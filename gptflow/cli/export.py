"""gptflow export: write the finished rows of a run, also while it goes on."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from gptflow.cli.options import debug_option
from gptflow.cli.stream import writing_output
from gptflow.errors import UsageError
from gptflow.runner.export import Exported, export_file, export_rows
from gptflow.runner.prepare import STORE_FOLDER
from gptflow.runner.server import MOCK
from gptflow.runner.words import counted
from gptflow.spec.model import OutputFormat
from gptflow.spec.showable import showable


@click.command("export")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--run",
    "run_id",
    type=int,
    help="The run's number.  [default: the latest, a real one before a simulated or local one]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .jsonl, .json, .csv or .parquet file.  [default: standard output]",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "json", "csv", "parquet"]),
    default="jsonl",
    show_default=True,
    help="The format on standard output; a file's name tells its own.",
)
@click.option("--columns", help="The columns and fields to write, with commas between.")
@click.option(
    "--csv-safe/--no-csv-safe",
    default=None,
    help="In CSV, put an apostrophe before what a spreadsheet would take for a formula.  "
    "[default: as the run's spec says]",
)
@debug_option
def command(
    store: Path,
    *,
    run_id: int | None,
    output: Path | None,
    file_format: OutputFormat,
    columns: str | None,
    csv_safe: bool | None,
) -> int:
    """Write the rows that a run of STORE has done, in input order; also while it goes on.

    STORE is a store's file, or the name of a pipeline whose store is in .gptflow/.

    \b
    gptflow export review-sentiment -o labels.csv
    gptflow export review-sentiment --columns review_id,label | head
    """
    path = store if store.is_file() else STORE_FOLDER / f"{store.name.removesuffix('.db')}.db"
    if not path.is_file():
        raise UsageError(f"no store {store}, and no {path}", hint="gptflow runs lists the stores")
    wanted = tuple(name.strip() for name in columns.split(",")) if columns else None
    if output is None:
        if file_format == "parquet" and sys.stdout.isatty():
            raise UsageError("a terminal cannot show Parquet", hint="name a file: -o rows.parquet")
        with writing_output():
            stream = _standard_output()
            exported = export_rows(
                path, stream, file_format, run_id=run_id, columns=wanted, csv_safe=csv_safe
            )
    else:
        exported = export_file(path, output, run_id=run_id, columns=wanted, csv_safe=csv_safe)
    for line in _report(exported):
        click.echo(showable(line), err=True)
    return 0


def _standard_output() -> BinaryIO:
    return cast("BinaryIO", _Terminal()) if sys.stdout.isatty() else sys.stdout.buffer


class _Terminal(io.RawIOBase):
    """Standard output where a person looks at it: what rows hold must not command the terminal."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        sys.stdout.write(showable(bytes(data).decode(errors="replace")))
        return len(data)

    def flush(self) -> None:
        sys.stdout.flush()


def _report(exported: Exported) -> Iterator[str]:
    run = exported.run
    if run.server:
        origin = "simulated" if run.server == MOCK else "answered on this machine"
        yield f"run {run.run_id} ({run.server}): {origin}"
    yield counted(exported.rows, "row")
