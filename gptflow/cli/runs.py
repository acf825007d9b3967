"""gptflow runs: list the runs of a store."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click

from gptflow.cli.options import debug_option
from gptflow.cli.stream import print_result
from gptflow.errors import StoreError, UsageError
from gptflow.runner.prepare import STORE_FOLDER
from gptflow.spec.showable import showable, showable_json
from gptflow.store.lock import holder_of
from gptflow.store.reader import StoreReader
from gptflow.store.record import RunRecord, RunStatus


@click.command("runs")
@click.argument("stores", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@debug_option
def command(stores: tuple[Path, ...], *, as_json: bool) -> int:
    """List the runs of STORES, by default of every store in .gptflow/, the newest last.

    \b
    gptflow runs
    gptflow runs .gptflow/review-sentiment.db
    """
    paths = list(stores) or sorted(STORE_FOLDER.glob("*.db"))
    if not paths:
        raise UsageError(
            f"no store in {STORE_FOLDER}/", hint="gptflow run SPEC makes one, in this folder"
        )
    rows: list[dict[str, object]] = []
    unreadable: list[StoreError] = []
    for path in paths:
        try:
            rows += _rows(path)
        except StoreError as error:  # one store that is damaged hides no other
            unreadable.append(error)
    if as_json:
        print_result(_json(rows))
    else:
        click.echo("".join(map(_line, rows)), nl=False)
    for problem in unreadable:
        click.echo(showable(str(problem)), err=True)
    return 2 if unreadable else 0


def _json(rows: list[dict[str, object]]) -> str:
    return showable_json(json.dumps(rows, ensure_ascii=False, indent=1)) + "\n"


def _line(row: dict[str, object]) -> str:
    server = f" ({row['server']})" if row["server"] else ""
    why = str(row["stop_reason"]).partition("\n")[0]
    return showable(
        f"{row['name']}  run {row['run']}  {row['began']}  {row['status']}{server}:"
        f" {row['done']:,} of {row['rows']:,} rows done, {row['failed']:,} failed"
        f"{f'; {why}' if why else ''}\n"
    )


def _status(run: RunRecord, holder: str | None) -> RunStatus:
    """Where a run stands. One that was killed could not write that down itself."""
    is_dead = run.status is RunStatus.RUNNING and holder is None
    return RunStatus.INTERRUPTED if is_dead else run.status


def _rows(path: Path) -> list[dict[str, object]]:
    with StoreReader(path) as reader:
        holder = holder_of(path)
        rows: list[dict[str, object]] = []
        for run in reader.runs():
            counts = reader.counts(run.run_id)
            rows.append(
                {
                    "store": str(path),
                    "name": run.name,
                    "run": run.run_id,
                    "status": str(_status(run, holder)),
                    "stop_reason": run.stop_reason,
                    "server": run.server,
                    "began": datetime.fromtimestamp(run.started_at)
                    .astimezone()
                    .isoformat(" ", "minutes"),
                    "rows": run.rows,
                    "done": counts.done,
                    "failed": counts.failed,
                    "output": run.output,
                }
            )
        return rows
