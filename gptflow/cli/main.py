"""The command line: finds the verb, runs it, and turns every error into words and an exit code.

0    all rows done
1    finished, with failed rows
2    bad spec, config, data or usage; also a store or an output that cannot be written
3    stopped, resumable: by a limit, no usable key, no server that answers, or first calls that all
     failed alike
4    a bug in gptflow; a report was written
130  interrupted (143: by SIGTERM; 129: by SIGHUP, the terminal is gone); resumable
"""

from __future__ import annotations

import importlib
import io
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import click

from gptflow import __version__
from gptflow.cli.stream import attach_missing, cannot_be_written, detach_broken
from gptflow.errors import GptflowError
from gptflow.files import NO_ROOM
from gptflow.runner.signals import Interrupted, heed_signal, raising_signals
from gptflow.spec.showable import showable

VERBS = ("run", "validate", "preview", "export", "runs", "doctor", "keys", "schema", "init", "mock")
"""The verbs in the order that --help lists them; each is gptflow.cli.VERB:command."""

EXIT_CODES = """
Exit codes: 0 all rows done; 1 finished with failed rows; 2 bad spec, config, data or usage, or a
disk that cannot be written; 3 stopped by a limit, no usable key, no server that answers, or first
calls that all failed alike, resumable; 4 a bug in gptflow; 130 interrupted by Ctrl-C, 143 by
SIGTERM, 129 as its terminal closed, resumable.
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
    "doctor": "check a store, and save what can be read of a damaged one",
    "keys": "ask each API key whether it works",
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
    attach_missing()
    with raising_signals():
        code = _call(arguments)
    unwritten = detach_broken()
    if unwritten is not None and not isinstance(unwritten, BrokenPipeError):
        _tell(cannot_be_written(unwritten))
    sys.exit(code)


def _call(arguments: Sequence[str]) -> int:
    try:
        result: Any = command.main(arguments, prog_name="gptflow", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  # the edge: whatever it is, a person is told what to do
        interruption = heed_signal()  # it may have been raised as another error, or led to it
        if interruption is None and isinstance(error, (KeyboardInterrupt, click.Abort)):
            interruption = Interrupted(signal.SIGINT)
        return _interrupted(interruption, arguments) if interruption else _failed(error, arguments)
    code = result if isinstance(result, int) else 0
    unheard = heed_signal()
    if unheard is not None and code != unheard.exit_code:
        return _interrupted(unheard, arguments)
    return code


def _interrupted(interruption: Interrupted, arguments: Sequence[str]) -> int:
    """Tells that a signal has come, and gives the exit code for it."""
    words = interruption.words
    if "run" in arguments[:1]:
        without = " without --fresh" if "--fresh" in arguments else ""
        words += f"; the same command{without} goes on from there"
    _tell(words)
    return interruption.exit_code


def _failed(error: BaseException, arguments: Sequence[str]) -> int:
    """Tells an error, and gives the exit code for it."""
    debug = "--debug" in arguments
    if isinstance(error, click.ClickException):
        _tell(_shown(error))
        return error.exit_code
    if isinstance(error, GptflowError):
        _tell(_traceback(error) if debug else str(error))
        return error.exit_code
    if isinstance(error, SystemExit):  # click's answer to a closed pipe: | head has seen enough
        return 0
    return _unforeseen(error, arguments, debug=debug)


def _unforeseen(bug: BaseException, arguments: Sequence[str], *, debug: bool) -> int:
    """Tells an error that no part of the program expected, and gives the exit code for it."""
    no_room = isinstance(bug, OSError) and bug.errno in NO_ROOM
    if debug:
        _tell(_traceback(bug))
    elif no_room and isinstance(bug, OSError):
        detach_broken()  # or it would be told a second time
        _tell(cannot_be_written(bug))
    else:
        from gptflow.cli.bug_report import write_bug_report

        _tell(write_bug_report(bug, arguments))
    return 2 if no_room else 4


def _tell(text: str) -> None:
    """Says something on standard error; where nobody listens the exit code has to do."""
    with suppress(OSError):
        click.echo(showable(text), err=True)


def _shown(error: click.ClickException) -> str:
    """What click shows of a mistake on the command line."""
    shown = io.StringIO()
    error.show(file=shown)
    return shown.getvalue().rstrip("\n")


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()
