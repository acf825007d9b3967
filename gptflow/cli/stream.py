"""The standard streams: some callers close them, some readers leave, some disks are full."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from gptflow.errors import OutputError

TOLD_AGAIN = "run it again with another place for its output; what is done is stored"


def attach_missing() -> None:
    """Puts the null device in the place of each standard stream that the caller has closed.

    Without it the next file that is opened would get its number, and be written to by whatever
    writes to standard error.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  # for the life of the process; no path


def detach_broken() -> OSError | None:
    """Puts the null device in the place of each output that cannot be written any more.

    What is still unwritten is lost; Python would try it again at its end, and change the exit
    code over it. Gives the error of standard output, else that of standard error.
    """
    errors = []
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            errors.append(error)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return errors[0] if errors else None


@contextmanager
def writing_output() -> Iterator[None]:
    """For what a command was asked for: it is whole on standard output, or an error.

    Raises:
        OutputError: standard output was closed by the caller, or cannot be written.
        BrokenPipeError: the reader has left; it has seen enough.
    """
    if getattr(sys.stdout, "name", None) == os.devnull:  # as `attach_missing` has put it there
        raise OutputError("standard output cannot be written: it is closed", hint=TOLD_AGAIN)
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        detach_broken()  # or it would be told a second time at the end
        raise OutputError(cannot_be_written(error), hint=TOLD_AGAIN) from error


def print_result(text: str) -> None:
    """Prints text for a program.

    Raises:
        OutputError: standard output was closed by the caller, or cannot be written.
    """
    with suppress(BrokenPipeError), writing_output():
        click.echo(text, nl=False)


def print_report(text: str) -> None:
    """Prints text for a person. Where that fails it is told, and no failure of the command."""
    try:
        print_result(text)
    except OutputError as error:
        with suppress(OSError):  # nobody listens there either
            click.echo(error.message, err=True)


def cannot_be_written(error: OSError) -> str:
    """What a person is told of a write that has failed. Standard output alone has no name."""
    where = "standard output" if error.filename is None else str(error.filename)
    reason = error.strerror or str(error)
    return f"{where} cannot be written: {reason[:1].lower()}{reason[1:]}"
