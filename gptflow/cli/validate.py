"""gptflow validate: check a spec and list all its problems."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gptflow.cli.options import (
    debug_option,
    printing_to_stderr,
    python_options,
    set_option,
    spec_argument,
)
from gptflow.cli.stream import print_result
from gptflow.errors import SpecError
from gptflow.runner.prepare import prepare
from gptflow.runner.python import Python
from gptflow.runner.words import counted
from gptflow.spec.showable import showable, showable_json


@click.command("validate")
@spec_argument
@set_option
@python_options
@click.option("--json", "as_json", is_flag=True, help="Print the problems as a JSON array.")
@debug_option
def command(spec: Path, overrides: tuple[str, ...], python: Python, *, as_json: bool) -> int:
    """Check SPEC, and list all its problems with file, line and column.

    The file, its templates, and the first rows of its source are read; nothing is sent.

    \b
    gptflow validate pipelines/label.yaml
    gptflow validate pipelines/label.yaml --set steps.label.when=true
    """
    problems = []
    try:
        with printing_to_stderr():
            plan = prepare(spec, overrides=overrides, python=python).plan
    except SpecError as error:
        if not as_json:
            raise
        problems = list(error.problems)
    if as_json:
        rows = [
            {
                "file": problem.place.file,
                "line": problem.place.line,
                "column": problem.place.column,
                "message": problem.message,
                "hint": problem.hint,
            }
            for problem in problems
        ]
        print_result(showable_json(json.dumps(rows, ensure_ascii=False, indent=1)) + "\n")
        return 2 if problems else 0
    steps, fields = counted(len(plan.steps), "step"), ", ".join(plan.fields) or "none"
    click.echo(showable(f"{spec}: no problems ({steps}, fields: {fields})"))
    return 0
