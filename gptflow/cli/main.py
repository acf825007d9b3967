"""The command line: finds the verb, runs it, and turns every error into words and an exit code.

0    all rows done
1    finished, with failed rows
2    bad spec, config, data or usage; nothing was sent
3    stopped by a limit, or because no key is left; resumable
4    a bug in gptflow; a report was written
130  interrupted (143: terminated); resumable
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import click

from gptflow import __version__
from gptflow.errors import GptflowError

VERBS = ("run", "validate", "preview", "export", "runs", "schema", "init", "mock")
"""The verbs in the order that --help lists them; each is gptflow.cli.VERB:command."""

EXIT_CODES = """
Exit codes: 0 all rows done; 1 finished with failed rows; 2 bad spec, config, data or usage;
3 stopped by a limit or for want of a key; 4 a bug in gptflow; 130/143 interrupted, resumable.
"""


class VerbGroup(click.Group):
    """Imports a verb when it is used: `gptflow --help` loads none of the engine."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of VERBS."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command; None if there is no such verb."""
        if cmd_name not in VERBS:
            meant = get_close_matches(cmd_name, VERBS, n=1)
            hint = f"Did you mean {meant[0]!r}?" if meant else f"There are {', '.join(VERBS)}."
            ctx.fail(f"there is no verb {cmd_name!r}. {hint}")
        module = importlib.import_module(f"gptflow.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing them."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, SUMMARIES[verb]) for verb in VERBS])


SUMMARIES = {
    "run": "ask a model about every row, and write the answers",
    "validate": "check a spec and list all its problems; nothing is sent",
    "preview": "show the exact messages of the first rows; nothing is sent",
    "export": "write the finished rows of a run, also while it goes on",
    "runs": "list the runs of a store",
    "schema": "print the JSON Schema of the spec language, for editors",
    "init": "make a spec, a prompt and data that run as they are",
    "mock": "serve a simulated OpenAI API on this machine",
}


@click.command(
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, message="gptflow %(version)s")
def command() -> None:
    """Declarative pipelines of language-model work over data.

    \b
    gptflow init demo && cd demo
    gptflow validate pipeline.yaml
    gptflow run pipeline.yaml --mock
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and exits the process; the entry point of `gptflow`."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = _call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # gptflow ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _call(arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    try:
        result: Any = command.main(arguments, prog_name="gptflow", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    except GptflowError as error:
        click.echo(_traceback() if debug else str(error), err=True)
        return error.exit_code
    except BrokenPipeError:
        raise
    except SystemExit:  # click's own answer to a closed pipe, which is no failure
        raise BrokenPipeError from None
    except Exception as bug:  # noqa: BLE001  # the edge: whatever it is, a person is told what to do
        from gptflow.cli.bug_report import write_bug_report

        click.echo(_traceback() if debug else write_bug_report(bug, arguments), err=True)
        return 4
    return result if isinstance(result, int) else 0


def _traceback() -> str:
    import traceback

    return traceback.format_exc().rstrip()
