"""A pipeline whose workers are threads of this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from gptflow.errors import RunStopped, WorkerFailed
from gptflow.wrapper.gpt_wrapper import GPTWrapper
from gptflow.wrapper.job import Job
from gptflow.wrapper.portal_call import SIGNAL_DELAY_S

DRAIN_S = 30.0
"""Seconds that the other threads get to end, after one has failed or after Ctrl-C."""
QUIET_S = 1.0
"""Seconds of that before a word is said about it."""


class _News(NamedTuple):
    """How a worker has ended."""

    worker: int
    results: list[Any]
    error: BaseException | None


def run_in_threads(job: Job, wrapper: GPTWrapper, chunks: Sequence[Any]) -> list[list[Any]]:
    """Each chunk's results, in order. Every chunk has a thread, and all share `wrapper`.

    A thread cannot be killed. When one fails, and on Ctrl-C, the next call of every other one
    raises RunStopped; calls on the wire come back first. A thread that makes no calls is waited
    for DRAIN_S, and then left to end by itself; a second Ctrl-C ends the waiting.

    Raises:
        BaseException: what the first worker that failed has raised.
    """
    news: SimpleQueue[_News] = SimpleQueue()
    threads = [
        threading.Thread(
            target=_work,
            args=(job, worker, wrapper.starting_at(worker), chunk, news),
            name=f"gptflow-worker-{worker}",
            daemon=True,  # one that never ends must not keep the interpreter
        )
        for worker, chunk in enumerate(chunks)
    ]
    try:
        for thread in threads:
            thread.start()
        return _gathered(news, len(threads))
    except BaseException as error:
        # `func` may have closed the wrapper, or the machine has no thread left for its engine.
        with suppress(Exception):
            wrapper.stop(RunStopped("the pipeline has ended: another worker failed, or Ctrl-C"))
        _see_out([thread for thread in threads if thread.is_alive()], _why(error))
        raise


def _work(job: Job, worker: int, wrapper: Any, chunk: Any, news: SimpleQueue[_News]) -> None:
    """A thread's body."""
    results: list[Any] = []
    error: BaseException | None = None
    try:
        results = job.results(worker, wrapper, chunk)
    except SystemExit as left:
        error = WorkerFailed(f"worker {worker} ended: {job.name} called sys.exit({left.code!r})")
        error.__cause__ = left
    except BaseException as raised:  # noqa: BLE001  # raised again in the pipeline's own thread
        error = raised
    news.put(_News(worker, results, error))


def _gathered(news: SimpleQueue[_News], count: int) -> list[list[Any]]:
    results: list[list[Any]] = [[] for _ in range(count)]
    for _ in range(count):
        ended = _next(news)
        if ended.error is not None:
            raise ended.error
        results[ended.worker] = ended.results
    return results


def _next(news: SimpleQueue[_News]) -> _News:
    while True:
        # A signal that comes just before the thread falls asleep does not wake it: so look again.
        with suppress(Empty):
            return news.get(timeout=SIGNAL_DELAY_S)


def _see_out(threads: Sequence[threading.Thread], why: str) -> None:
    """Waits for threads that have been told to end, and says so if it takes its time."""
    _join(threads, QUIET_S)
    if any(thread.is_alive() for thread in threads):
        told = "%s: the pipeline ends; its other threads have %.0f s for their last call, or Ctrl-C"
        logging.getLogger("gptflow").warning(told, why, DRAIN_S)
        _join(threads, DRAIN_S)


def _why(error: BaseException) -> str:
    """What ends the pipeline, in a line; the error itself is raised when all threads have ended."""
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C was pressed"
    first_line = str(error).partition("\n")[0]
    return f"a worker failed ({type(error).__name__}: {first_line:.200})"


def _join(threads: Sequence[threading.Thread], longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
