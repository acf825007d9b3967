"""What a new process has to find when it imports the program again, and what it must not find.

A process that is spawned begins with an empty interpreter: it imports the main script under another
name, and finds the functions of the pipeline there.
"""

from __future__ import annotations

import functools
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from gptflow.errors import UsageError

NO_GUARD_EXIT = 78
"""How a worker ends whose import of the main script has come upon a pipeline (EX_CONFIG)."""


def process_context() -> BaseContext:
    """How workers are started: by `spawn`, or by `forkserver` if the program has chosen that.

    Not by `fork`, which copies a process without its threads: what an engine leaves behind there
    cannot be used. And it cannot be told whether `fork` was chosen, or is only the default.
    """
    chosen = multiprocessing.get_start_method(allow_none=True)
    return multiprocessing.get_context("forkserver" if chosen == "forkserver" else "spawn")


def leave_if_imported_by_worker() -> None:
    """Ends the process if it is a worker that is only just importing the main script.

    The script has started its pipeline again, for want of a guard. The parent, which sees the exit
    code, tells it once; here it would be told by each worker.
    """
    # Set by multiprocessing.spawn while it prepares a child; its own check for this reads it, too.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(NO_GUARD_EXIT)


def no_guard_error(threads_instead: str) -> UsageError:
    """What to tell when a worker has ended with NO_GUARD_EXIT."""
    script = getattr(sys.modules["__main__"], "__file__", None) or "the main script"
    return UsageError(
        f"{script} starts its processes as soon as it is imported, and every worker imports it",
        hint='put what starts them below `if __name__ == "__main__":`, or use ' + threads_instead,
    )


def require_importable(func: Callable[..., Any], instead: str) -> None:
    """Sees to it that a worker can import the main script, and `func`.

    Raises:
        UsageError: the program is not a file that could be imported, and the workers need it.
    """
    main = sys.modules["__main__"]
    if getattr(getattr(main, "__spec__", None), "name", None):  # python -m
        return
    file = getattr(main, "__file__", None)
    hint = f"put it into a module, in a file beside this one, and import it; or use {instead}"
    if file is not None and not Path(file).is_file():  # "<stdin>"
        raise UsageError(
            f"the program comes from {file}, and no worker process can import that",
            hint=f"save it as a file; or use {instead}",
        )
    while isinstance(func, functools.partial):
        func = func.func
    if file is None and getattr(func, "__module__", None) == "__main__":
        name = getattr(func, "__qualname__", type(func).__name__)
        raise UsageError(
            f"{name} was defined in a notebook or at a prompt: a worker process cannot import it",
            hint=hint,
        )
