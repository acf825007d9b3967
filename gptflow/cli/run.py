"""gptflow run: ask a model about every row, and write the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import click

from gptflow.cli.options import (
    OptionalWeights,
    debug_option,
    printing_to_stderr,
    python_options,
    server_options,
    set_option,
    spec_argument,
    store_option,
)
from gptflow.cli.run_report import command_line, report
from gptflow.cli.stream import print_report, print_result
from gptflow.runner.prepare import prepare
from gptflow.runner.progress import choose_display
from gptflow.runner.python import Python
from gptflow.runner.runner import Runner, RunOptions
from gptflow.runner.server import ServerChoice
from gptflow.runner.summary import RunSummary
from gptflow.spec.parallelism import MODES, Mode
from gptflow.spec.showable import showable, showable_json


@click.command("run", cls=OptionalWeights)
@spec_argument
@server_options
@set_option
@store_option
@python_options
@click.option("--fresh", is_flag=True, help="Start over: ask everything again.")
@click.option(
    "--retry",
    type=click.Choice(["failed", "truncated"]),
    help="Ask again the rows that failed, or whose reply was cut off.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="Where the work runs, in place of the spec's parallelism.mode.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many threads, processes or Ray actors, in place of parallelism.workers.",
)
@click.option(
    "--no-wait",
    is_flag=True,
    help="In batch mode: submit all that can be, fetch what is ready, and leave.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@debug_option
def command(  # noqa: PLR0913  # one parameter for each option of the verb
    spec: Path,
    choice: ServerChoice,
    overrides: tuple[str, ...],
    store: Path | None,
    python: Python,
    *,
    fresh: bool,
    retry: Literal["failed", "truncated"] | None,
    mode: Mode | None,
    workers: int | None,
    no_wait: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Ask a model about every row of SPEC, and write the answers.

    The same command again goes on where the last one stopped; what was answered once is not
    asked again. Progress goes to stderr.

    \b
    gptflow run pipelines/label.yaml
    gptflow run pipelines/label.yaml --set source.limit=20 --set model.name=gpt-4o
    gptflow run pipelines/label.yaml --local
    gptflow run pipelines/label.yaml --retry failed
    gptflow run pipelines/label.yaml --mode process --workers 4
    gptflow run pipelines/label.yaml --mode batch --no-wait
    gptflow run pipelines/label.yaml --json | jq .cost_usd
    """
    if fresh and retry:
        raise click.UsageError("--fresh and --retry exclude each other")
    overrides = (*overrides, *_parallelism(mode, workers))
    with printing_to_stderr():
        prepared = prepare(spec, choice, overrides=overrides, python=python)
        if no_wait and prepared.spec.parallelism.mode != "batch":
            raise click.UsageError("--no-wait is for batch mode: give --mode batch, too")
        display = choose_display(sys.stderr, quiet=quiet)
        options = RunOptions(store, fresh=fresh, retry=retry, wait=not no_wait)
        summary = Runner(prepared, options, display).run()
    if as_json and summary.message:
        click.echo(showable(f"stopped: {summary.message}"), err=True)
    again = command_line(spec, choice, overrides, store, python.access)
    if as_json:
        print_result(_json(summary))
    else:
        print_report(report(summary, again))
    return summary.exit_code


def _parallelism(mode: Mode | None, workers: int | None) -> list[str]:
    """The two options as the --set that they are short for."""
    given = {"mode": mode, "workers": workers}
    return [f"parallelism.{name}={value}" for name, value in given.items() if value is not None]


def _json(summary: RunSummary) -> str:
    return showable_json(json.dumps(summary.as_json(), ensure_ascii=False)) + "\n"
