"""gptflow preview: show the exact messages of the first rows, without sending them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from gptflow.cli.options import (
    debug_option,
    printing_to_stderr,
    python_options,
    set_option,
    spec_argument,
)
from gptflow.data.excerpt import printable
from gptflow.errors import RowFailed, UsageError
from gptflow.pipeline.plan import Plan
from gptflow.pipeline.token_estimate import estimate_tokens
from gptflow.records import Call, Row
from gptflow.runner.dialogue import Dialogue
from gptflow.runner.prepare import prepare
from gptflow.runner.python import Python
from gptflow.spec.showable import showable


@click.command("preview")
@spec_argument
@click.option(
    "-n",
    "count",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How many rows to show.",
)
@click.option("--row", type=click.IntRange(1), help="Show just this row, from 1.")
@set_option
@python_options
@debug_option
def command(
    spec: Path, overrides: tuple[str, ...], python: Python, *, count: int, row: int | None
) -> int:
    """Show what the first rows of SPEC would be asked: the exact messages; nothing is sent.

    A later step's messages hang on the replies before it, so each row is shown up to its first
    call, and the steps that may follow are named.

    \b
    gptflow preview pipelines/label.yaml
    gptflow preview pipelines/label.yaml --row 17
    """
    first, last = (row - 1, row) if row is not None else (0, count)
    shown = 0
    with printing_to_stderr() as stdout:
        prepared = prepare(spec, overrides=overrides, python=python)
        for each in prepared.rows(first, last):
            shown += 1
            click.echo("\n".join(_lines(prepared.plan, each)), file=stdout)
    if not shown:
        raise UsageError(
            f"there is no row {first + 1} to ask about",
            hint="rows are counted from 1, after where, limit and sample of the source",
        )
    return 0


def _lines(plan: Plan, row: Row) -> Iterator[str]:
    yield click.style(f"row {row.position + 1}", bold=True)
    try:
        said = asyncio.run(Dialogue(plan, row).up_to_question())
    except RowFailed as failed:
        yield f"  cannot be asked: {showable(failed.failure.message)}"
        return
    if isinstance(said, dict):
        yield "  no step applies: nothing is asked"
        return
    if isinstance(said, Call):
        yield from _call_lines(said)
    else:
        yield showable(
            f"  step {said.step.name}: {said.hook.name} is called, and asks what it wants"
        )
    names = [step.name for step in plan.steps]
    asked = said.step if isinstance(said, Call) else said.step.name
    following = names[names.index(asked) + 1 :]
    if following:
        yield f"  then, in the same conversation: {', '.join(following)}"


def _call_lines(call: Call) -> Iterator[str]:
    tokens = estimate_tokens(call.messages)
    params = "".join(f" {name}={value}" for name, value in call.params.items())
    yield showable(f"  step {call.step}: {call.model}{params}, about {tokens:,} tokens")
    for message in call.messages:
        yield click.style(f"  {message['role']}", dim=True)
        yield from (f"    {printable(line)}" for line in message["content"].split("\n"))
