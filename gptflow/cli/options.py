"""Options that several verbs share."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from gptflow.runner.python import Python
from gptflow.runner.server import ServerChoice
from gptflow.spec.showable import showable

Command = TypeVar("Command", bound=Callable[..., Any])

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)
SHORT_FOR_SET = {"parallelism.mode": "--mode", "parallelism.workers": "--workers"}
"""Options of `run` that are short for a `--set`."""
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Set a value of the spec, such as model.temperature=0 or steps.label.when=false. "
    "Repeatable; the value is read as YAML and checked like the file.",
)
store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The store's file.  [default: .gptflow/NAME.db]",
)


def python_options(command: Command) -> Command:
    """--allow-python and --python-path: which functions of the user's run. Passed as `python`."""

    @functools.wraps(command)
    def collect(
        *args: Any, allow_python: bool, python_path: tuple[Path, ...], **kwargs: Any
    ) -> Any:
        announce = functools.partial(click.echo, err=True)
        python = Python.of(
            allow=allow_python,
            folders=python_path,
            announce=lambda line: announce(showable(line)),
        )
        return command(*args, python=python, **kwargs)

    decorated: Any = collect
    for option in reversed(_PYTHON_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


@contextmanager
def printing_to_stderr() -> Iterator[TextIO]:
    """What the user's functions print goes to stderr; gives a stream to where stdout went.

    A program may read what the command itself prints. The programs that functions start print to
    stderr, too.
    """
    with _kept_apart(sys.stdout) as stdout, redirect_stdout(sys.stderr):
        yield stdout


@contextmanager
def _kept_apart(stdout: TextIO) -> Iterator[TextIO]:
    """Has descriptor 1 be another 2 meanwhile, where these are the standard streams."""
    if not (_is_at(stdout, 1) and _is_at(sys.stderr, 2)):
        yield stdout
        return
    stdout.flush()
    kept, encoding, errors = os.dup(1), stdout.encoding, stdout.errors
    os.dup2(2, 1)
    try:
        with os.fdopen(kept, "w", encoding=encoding, errors=errors, closefd=False) as out:
            yield out
    finally:
        with suppress(OSError, ValueError):  # what was written past sys.stdout; it may be closed
            stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _is_at(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError):  # it is in memory, or closed
        return False


def server_options(command: Command) -> Command:
    """--config, --mock, --scenario and --local: who answers. Passed on as `choice`."""

    @functools.wraps(command)
    def collect(
        *args: Any,
        config: Path | None,
        mock: bool,
        scenario: Path | None,
        local: str | None,
        **kwargs: Any,
    ) -> Any:
        mock = mock or scenario is not None
        given = {"--config": config is not None, "--mock": mock, "--local": local is not None}
        names = [name for name, is_given in given.items() if is_given]
        if len(names) > 1:
            raise click.UsageError(f"{' and '.join(names)} exclude each other")
        weights = Path(local) if local else None
        choice = ServerChoice(config, mock, scenario, local is not None, weights)
        return command(*args, choice=choice, **kwargs)

    decorated: Any = collect
    for option in reversed(_SERVER_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


class OptionalWeights(click.Command):
    """Lets `--local SPEC` mean the built-in model: only a .gguf file is taken as its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Click's hook: the command line's words, before they are taken apart."""
        words = list(args)
        for place, word in enumerate(words):
            following = words[place + 1] if place + 1 < len(words) else ""
            if word == "--local" and not following.lower().endswith(".gguf"):
                words[place] = "--local="
        is_built_in = "--local=" in words
        ctx.allow_extra_args = True  # they are refused below, with words that help
        extra = super().parse_args(ctx, words)
        if extra:
            several = " and ".join(repr(word) for word in (str(ctx.params["spec"]), *extra))
            weights = "; a model for --local is a .gguf file" if is_built_in else ""
            ctx.fail(f"there can be one SPEC, and these are several: {several}{weights}")
        return extra


_PYTHON_OPTIONS = (
    click.option(
        "--allow-python",
        is_flag=True,
        help="Run the functions of your own that SPEC names. They can do all that you can.",
    ),
    click.option(
        "--python-path",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        multiple=True,
        metavar="DIR",
        help="A folder with their modules. Repeatable; it is looked in last.",
    ),
)
_SERVER_OPTIONS = (
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="The file of API keys.  [default: config.json, else OPENAI_API_KEY]",
    ),
    click.option(
        "--mock",
        is_flag=True,
        help="Rehearse against a simulator: nothing is asked, nothing is paid.",
    ),
    click.option(
        "--scenario",
        type=click.Path(path_type=Path),
        help="What the simulator does: latency, replies, failures. Implies --mock.",
    ),
    click.option(
        "--local",
        metavar="[GGUF]",
        help="Ask a model on this machine: SmolLM2-135M-Instruct, or a .gguf file.",
    ),
)
