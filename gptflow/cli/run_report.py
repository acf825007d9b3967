"""The lines at the end of a run: what came of it, where it is, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import shorten

from gptflow.cli.options import SHORT_FOR_SET
from gptflow.data.sinks.failed import failed_path
from gptflow.engine.duration import duration
from gptflow.pipeline.hook_file import PythonAccess
from gptflow.pipeline.hooks_of_spec import NO_ACCESS
from gptflow.pipeline.texts import shown_path
from gptflow.runner.server import MOCK, ServerChoice
from gptflow.runner.summary import Ending, RunSummary
from gptflow.runner.words import counted, money, token_count
from gptflow.spec.showable import showable
from gptflow.spec.veil import veiled_change

REASONS_SHOWN = 3
REASON_CHARS = 60


def report(summary: RunSummary, again: Sequence[str]) -> str:
    """The report as text. `again` are the words of the command that works on this run again."""
    return "".join(f"{showable(line)}\n" for line in _lines(summary, again))


def command_line(
    spec: Path,
    choice: ServerChoice,
    overrides: Sequence[str],
    store: Path | None,
    access: PythonAccess = NO_ACCESS,
) -> list[str]:
    """The words of a command that works on the same run: all that decides which one that is."""
    words = ["gptflow", "run", str(spec)]
    if choice.scenario:
        words += ["--scenario", str(choice.scenario)]
    elif choice.mock:
        words.append("--mock")
    if choice.local:
        words += ["--local", *([str(choice.weights)] if choice.weights else [])]
    for option, path in (("--config", choice.config), ("--store", store)):
        words += [option, str(path)] if path else []
    words += ["--allow-python"] if access.is_allowed else []
    for folder in access.folders:
        words += ["--python-path", shown_path(Path(folder))]
    for override in overrides:
        words += _option(override)
    return words


def _option(override: str) -> list[str]:
    """A `--set` as it is given, or the option that is short for it."""
    path, _, value = override.partition("=")
    short = SHORT_FOR_SET.get(path)
    return [short, value] if short and value.isalnum() else ["--set", veiled_change(override)]


def _lines(summary: RunSummary, again: Sequence[str]) -> Iterator[str]:
    if summary.nothing_to_do:
        yield f"{summary.name}: nothing to do; {_rows(summary)}"
    else:
        yield f"{_verb(summary)}{_rows(summary)}, {_work(summary)}"
    if summary.message:
        yield f"stopped: {summary.message}"
    if summary.status is Ending.FINISHED:
        yield from _files(summary)
    elif summary.status is Ending.STOPPED and summary.failures:
        yield f"  failed rows: {_reasons(summary)}"
    following = _next(summary, again)
    if following:
        yield f"next: {following}"


def _verb(summary: RunSummary) -> str:
    words = [] if summary.status is Ending.FINISHED else [summary.status.value]
    if summary.server == MOCK:
        words.append("simulated, nothing was asked")
    return f"{'; '.join(words)}: " if words else ""


def _rows(summary: RunSummary) -> str:
    parts = [f"done {summary.done:,}", f"failed {summary.failed:,}"]
    if summary.pending:
        parts.append(f"to do {summary.pending:,}")
    return ", ".join(parts)


def _work(summary: RunSummary) -> str:
    parts = [duration(summary.wall_s), counted(summary.calls, "call")]
    if summary.reused_calls:
        parts.append(f"{summary.reused_calls:,} reused")
    parts.append(f"{token_count(summary.prompt_tokens + summary.completion_tokens)} tokens")
    if summary.cost_usd:
        parts.append(money(summary.cost_usd))
    return ", ".join(parts)


def _files(summary: RunSummary) -> Iterator[str]:
    rows = [(shown_path(summary.output), counted(summary.done, "row"))]
    if summary.failed:
        failed = f"{counted(summary.failed, 'row')}: {_reasons(summary)}"
        rows.append((_failed_files(summary.output), failed))
    width = max(len(path) for path, _ in rows)
    for path, text in rows:
        yield f"  {path:<{width}}  {text}"


def _failed_files(output: Path) -> str:
    """Where the failed rows are: of a folder of outputs, beside each of them."""
    if output.is_dir():
        return f"{shown_path(output)}/**/*.failed.jsonl"
    return shown_path(failed_path(output))


def _reasons(summary: RunSummary) -> str:
    shown = summary.failures[:REASONS_SHOWN]
    return ", ".join(f"{_reason(group.message)} {group.rows:,}" for group in shown)


def _next(summary: RunSummary, again: Sequence[str]) -> str | None:
    """The next command, to be pasted as it is: what explains it is a comment of the shell."""
    if summary.status is not Ending.FINISHED:
        words = _with_options(again, summary.next_options)
        return f"{shlex.join(words)}   # goes on where this stopped"
    if summary.failed:
        return shlex.join([*again, "--retry", "failed"])
    return None


def _with_options(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """The words with the options, and without each --set of a path that the options set anew."""
    paths = {_path(change) for option, change in pairwise(options) if option == "--set"}
    kept, rest = [], iter(words)
    for word in rest:
        change = next(rest, "") if word == "--set" else None
        if change is None:
            kept.append(word)
        elif _path(change) not in paths:
            kept += [word, change]
    return [*kept, *options]


def _path(change: str) -> str:
    """What a --set sets."""
    return change.partition("=")[0]


def _reason(message: str) -> str:
    """A reason short enough to be one of several on a line."""
    return shorten(message.rstrip("."), REASON_CHARS, placeholder="...")
