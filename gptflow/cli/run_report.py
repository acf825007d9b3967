"""The lines at the end of a run: what came of it, where it is, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gptflow.data.sinks.failed import failed_path
from gptflow.pipeline.texts import shown_path
from gptflow.runner.summary import Ending, RunSummary
from gptflow.runner.words import counted, duration, money, token_count

REASONS_SHOWN = 3


def report(summary: RunSummary, spec: Path) -> str:
    """The report as text. `spec` is the path that the user typed, for the next command."""
    return "\n".join(_lines(summary, spec)) + "\n"


def _lines(summary: RunSummary, spec: Path) -> Iterator[str]:
    if summary.nothing_to_do:
        yield f"{summary.name}: nothing to do; {_rows(summary)}"
    else:
        yield f"{_verb(summary)}{_rows(summary)}, {_work(summary)}"
    if summary.message:
        yield f"stopped: {summary.message}"
    if summary.status is Ending.FINISHED:
        yield from _files(summary)
    following = _next(summary, spec)
    if following:
        yield f"next: {following}"


def _verb(summary: RunSummary) -> str:
    if summary.server == "mock":
        return "simulated, nothing was asked: "
    return "" if summary.status is Ending.FINISHED else f"{summary.status.value}: "


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
        shown = summary.failures[:REASONS_SHOWN]
        reasons = ", ".join(f"{group.message} {group.rows:,}" for group in shown)
        rows.append(
            (
                shown_path(failed_path(summary.output)),
                f"{counted(summary.failed, 'row')}: {reasons}",
            )
        )
    width = max(len(path) for path, _ in rows)
    for path, text in rows:
        yield f"  {path:<{width}}  {text}"


def _next(summary: RunSummary, spec: Path) -> str | None:
    options = {"": "", "mock": " --mock"}.get(summary.server, " --local")
    command = f"gptflow run {spec}{options}"
    if summary.status is not Ending.FINISHED:
        return f"{command}   (goes on where this stopped)"
    if summary.failed:
        return f"{command} --retry failed"
    return None
