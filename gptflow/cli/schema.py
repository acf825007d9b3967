"""gptflow schema: print the JSON Schema of the spec language."""

from __future__ import annotations

import json

import click

from gptflow.cli.options import debug_option
from gptflow.spec.schema import pipeline_schema


@click.command("schema")
@debug_option
def command() -> int:
    """Print the JSON Schema of the spec language, for editors that complete and check YAML.

    \b
    gptflow schema > pipeline.schema.json
    # and as the first line of a spec:
    # yaml-language-server: $schema=pipeline.schema.json
    """
    click.echo(json.dumps(pipeline_schema(), indent=2, ensure_ascii=False))
    return 0
