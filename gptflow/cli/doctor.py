"""gptflow doctor: whether a store is sound, and with --repair a sound one in its place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from gptflow.cli.options import debug_option, store_option
from gptflow.engine.stored import is_readable
from gptflow.errors import GptflowError, SpecError, UsageError
from gptflow.runner.prepare import STORE_FOLDER
from gptflow.runner.words import counted
from gptflow.spec.load import read_spec
from gptflow.store.doctor import Diagnosis, examine, repair

PROBLEMS_SHOWN = 10


@click.command("doctor")
@click.argument("spec", required=False, type=click.Path(path_type=Path))
@store_option
@click.option(
    "--repair", "wants_repair", is_flag=True, help="Save what can be read of a damaged one."
)
@debug_option
def command(spec: Path | None, *, store: Path | None, wants_repair: bool) -> int:
    """Check the store of SPEC, or every store in .gptflow/, and say what is wrong with it.

    Exit code 0 means that all is well. --repair puts a new store with all runs, rows and replies
    that can be read in the place of a damaged one, which is kept beside it; a sound one is left
    alone. Then the run goes on, and asks only what was lost.

    \b
    gptflow doctor
    gptflow doctor pipelines/label.yaml --repair
    gptflow doctor --store .gptflow/review-sentiment.db --repair
    """
    sound = True
    for path in _stores(spec, store):
        try:
            lines, is_sound = _repaired(path) if wants_repair else _examined(path)
        except GptflowError as error:  # one store that is none hides no other
            click.echo(str(error), err=True)
            sound = False
            continue
        click.echo("\n".join(lines))
        sound &= is_sound
    return 0 if sound else 2


def _stores(spec: Path | None, store: Path | None) -> list[Path]:
    if spec is not None and store is not None:
        raise click.UsageError("SPEC and --store exclude each other")
    if store is not None:
        return [store]
    if spec is not None:
        draft = read_spec(spec)
        if draft.spec is None:
            raise SpecError(draft.problems)
        return [STORE_FOLDER / f"{draft.spec.name}.db"]
    paths = [path for path in sorted(STORE_FOLDER.glob("*.db")) if ".damaged-" not in path.name]
    if not paths:
        raise UsageError(
            f"no store in {STORE_FOLDER}/", hint="gptflow run SPEC makes one, in this folder"
        )
    return paths


def _examined(path: Path) -> tuple[list[str], bool]:
    diagnosis = examine(path, is_readable)
    return list(_findings(diagnosis)), not diagnosis.problems


def _findings(diagnosis: Diagnosis) -> Iterator[str]:
    path, problems = diagnosis.path, diagnosis.problems
    yield f"{path}: {'damaged' if problems else 'sound'}"
    for problem in problems[:PROBLEMS_SHOWN]:
        yield f"  {problem}"
    if len(problems) > PROBLEMS_SHOWN:
        yield f"  and {len(problems) - PROBLEMS_SHOWN:,} more"
    held = [counted(diagnosis.runs, "run"), counted(diagnosis.rows, "row")]
    if diagnosis.runs:
        yield f"  {', '.join(held)}, {_replies(diagnosis.replies)}"
    yield f"  {_where(diagnosis)}"
    if diagnosis.holder:
        yield f"  in use by {diagnosis.holder}"
    if diagnosis.unchecked:
        yield f"  not checked: {diagnosis.unchecked}"
    if problems:
        yield f"Hint: gptflow doctor --store {path} --repair  saves what can be read"


def _where(diagnosis: Diagnosis) -> str:
    kind = diagnosis.filesystem or "its disk"
    version = f"version {diagnosis.version}, " if diagnosis.version else ""
    return (
        f"{version}{diagnosis.size_bytes / 1e6:,.1f} MB,"
        f" {diagnosis.free_bytes / 1e9:,.1f} GB free on {kind}"
    )


def _repaired(path: Path) -> tuple[list[str], bool]:
    done = repair(path, time.time(), is_readable)
    if done is None:
        return [f"{path}: sound, and left alone"], True
    lost = [counted(done.lost_rows, "row")] if done.lost_rows else []
    lost += [_replies(done.lost_replies)] if done.lost_replies else []
    replies = _replies(done.replies)
    return [
        f"{path}: repaired",
        f"  saved {counted(done.runs, 'run')}, {counted(done.rows, 'ended row')}, {replies}",
        "  this brought an interrupted repair to its end"
        if done.lost_rows is None
        else f"  lost {' and '.join(lost) or 'nothing'}",
        f"  the damaged store is kept as {done.damaged}",
        "next: the same gptflow run; it asks only what has no reply",
    ], True


def _replies(number: int) -> str:
    return "1 reply" if number == 1 else f"{number:,} replies"
