"""gptflow keys: ask each key whether it works."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from gptflow.cli.options import debug_option
from gptflow.cli.stream import print_result
from gptflow.engine.config import find_config
from gptflow.engine.probe import KeyReport, probe_keys
from gptflow.errors import ConfigError
from gptflow.runner.words import counted, token_count
from gptflow.spec.showable import showable, showable_json


@click.command("keys")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The file of API keys.  [default: config.json, else OPENAI_API_KEY]",
)
@click.option(
    "--ask",
    metavar="MODEL",
    help="Also ask each key that serves MODEL for one token. That costs a little.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@debug_option
def command(config: Path | None, ask: str | None, *, as_json: bool) -> int:
    """Ask each key whether it works, and say why not.

    It asks for the list of models, which costs nothing. But OpenAI gives it to a key whose quota is
    spent, and some servers to anybody: only --ask shows that. Exit code 0 if all keys work, 1 if
    not.

    \b
    gptflow keys
    gptflow keys --ask gpt-4o-mini
    gptflow keys --config keys.json --json | jq '.[] | select(.state != "works")'
    """
    found = find_config(config, os.environ)
    if found is None:
        raise ConfigError(
            "no config.json here and no OPENAI_API_KEY",
            hint='write {"key_list": [{"api_key": "..."}]} into config.json, or '
            "export OPENAI_API_KEY=...",
        )
    for note in found.notes:
        click.echo(showable(note), err=True)
    reports = asyncio.run(probe_keys(found.keys, ask=ask))
    if as_json:
        print_result(showable_json(_json(reports)) + "\n")
    else:
        click.echo(showable(f"{found.origin}: {_count(reports)}\n"))
        click.echo(showable("\n".join([*_table(reports), *_reasons(reports)])))
    works = [report.works for report in reports]
    if any(works) and not (ask or as_json):
        click.echo("\nnext: gptflow keys --ask MODEL also tells whether quota is left")
    return 0 if all(works) else 1


def _json(reports: Sequence[KeyReport]) -> str:
    rows = [{"works": report.works, **dataclasses.asdict(report)} for report in reports]
    return json.dumps(rows, ensure_ascii=False, indent=1)


def _count(reports: Sequence[KeyReport]) -> str:
    work = sum(report.works for report in reports)
    return f"{counted(len(reports), 'key')}, {work:,} {'works' if work == 1 else 'work'}"


def _table(reports: Sequence[KeyReport]) -> Iterator[str]:
    head = ("name", "key", "host", "state", "models", "limits", "organization")
    table = [head, *map(_row, reports)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _row(report: KeyReport) -> tuple[str, str, str, str, str, str, str]:
    return (
        report.name,
        report.key,
        report.host,
        report.state,
        "" if report.models is None else f"{report.models:,}",
        _limits(report),
        report.organization or "",
    )


def _limits(report: KeyReport) -> str:
    """The limits that are known: of a minute with most servers, of a day with some."""
    told = [f"{report.requests:,} requests"] if report.requests else []
    told += [f"{token_count(report.tokens)} tokens"] if report.tokens else []
    whose = " (config)" if report.limits_from == "config" else ""
    return f"{', '.join(told)}{whose}"


def _reasons(reports: Sequence[KeyReport]) -> Iterator[str]:
    """Each reason once, with the names of its keys."""
    names: dict[tuple[str, str | None], list[str]] = {}
    for report in reports:
        if report.message:
            names.setdefault((report.message, report.hint), []).append(report.name)
    for (message, hint), of in names.items():
        yield f"\n{', '.join(of)}: {message}"
        yield from [f"Hint: {hint}"] if hint else []
