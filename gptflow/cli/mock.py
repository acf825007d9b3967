"""gptflow mock: serve a simulated OpenAI API on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gptflow.cli.options import debug_option
from gptflow.mock.document import read_scenario
from gptflow.mock.failure.catalogue import CATALOGUE, GROUPS
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import serve


def _list_failures(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Show the catalogue: names, statuses and what they are, group by group."""
    if not wanted or context.resilient_parsing:
        return
    width = max(map(len, CATALOGUE))
    for group, failures in GROUPS.items():
        click.echo(f"{group}:")
        for failure in failures:
            click.echo(f"  {failure.name:{width}}  {failure.shown_status:3}  {failure.about}")
        click.echo()
    click.echo("in a scenario: failures: {server_500: 2%, hang: 0.1%}")
    context.exit()


@click.command("mock")
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8000,
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--log", type=click.Path(path_type=Path), help="Append each request as a JSON line.")
@click.option(
    "--list",
    "lists",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_failures,
    help="Show the failures that a scenario can name, and end.",
)
@debug_option
def command(scenario: Path | None, host: str, port: int, log: Path | None) -> int:
    """Serve a simulated OpenAI API: SCENARIO says how slow it is, what it answers, how it fails.

    A scenario is YAML with any of: latency, slowdown, reply, failures, keys, models, concurrency,
    outages, batch, log, seed. docs/mock.md explains each.

    \b
    gptflow mock
    gptflow mock --list
    gptflow mock scenario.yaml --port 8001 --log requests.jsonl
    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=sk-any gptflow run SPEC
    """
    loaded = read_scenario(scenario) if scenario else Scenario()
    if log is not None:
        loaded = loaded.model_copy(update={"log": log})

    def announce(base_url: str) -> None:
        click.echo(f"serving {base_url} until Ctrl-C; in config.json:")
        key = {"api_key": _served_key(loaded), "base_url": base_url}
        click.echo(f"  {json.dumps({'key_index': 0, 'key_list': [key]})}")

    serve(loaded, host=host, port=port, announce=announce)
    return 0


def _served_key(scenario: Scenario) -> str:
    """A key that the server takes: any, unless it refuses those that it does not list."""
    if scenario.unknown_keys == "allow":
        return "any"
    return next((key for key, rule in scenario.keys.items() if not rule.failure), "any")
