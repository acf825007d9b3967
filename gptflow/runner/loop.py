"""The event loop that a run lives on: uvloop where it exists, apart from any loop of the caller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from gptflow.engine.event_loop import loop_factory
from gptflow.errors import GptflowError

T = TypeVar("T")


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a loop of its own, and gives its result.

    Raises:
        GptflowError: a task that nobody waited for, of the user's code, has raised SystemExit: that
            ends the loop, and must not pass for the end of the work.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(coroutine)
    except SystemExit as error:
        told = f"a task of a Python function has raised SystemExit({error.code!r:.80})"
        hint = "raise another exception there; the same command goes on where this one stopped"
        raise GptflowError(f"{told}, which ends all rows", hint=hint) from None


def outside_of_any_loop(work: Callable[[], T], interrupt: Callable[[], None]) -> T:
    """Calls a blocking function that starts a loop; in a thread if the caller stands in a loop.

    That is the case in a notebook: its cells run inside a loop that cannot be entered again. A
    Ctrl-C there is passed on by `interrupt`, and the work is waited for: it has calls in flight.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  # carried over to the caller's thread
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=body, name="gptflow-run")
    thread.start()
    while not ended.is_set():  # an interrupted Thread.join can take a live thread for dead
        try:
            ended.wait()
        except KeyboardInterrupt:
            interrupt()
    if errors:
        raise errors[0]
    return results[0]
