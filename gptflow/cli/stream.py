"""The standard streams: some callers close them, some readers leave, some disks are full."""

from __future__ import annotations

import os
import sys


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
