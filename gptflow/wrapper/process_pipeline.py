"""A pipeline whose workers are processes: starts them, hears of them, and leaves none behind."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from gptflow.errors import GptflowError, UsageError, WorkerFailed
from gptflow.wrapper.carried import Carried
from gptflow.wrapper.gpt_wrapper import GPTWrapper
from gptflow.wrapper.job import Job, name_of
from gptflow.wrapper.main_module import (
    NO_GUARD_EXIT,
    no_guard_error,
    process_context,
    require_importable,
)
from gptflow.wrapper.portal_call import SIGNAL_DELAY_S
from gptflow.wrapper.worker_process import READY, Work, live

GRACE_S = 5.0
"""Seconds that a process gets to end by itself, before it is killed."""


@dataclass(slots=True)
class _Worker:
    """A process, seen from its parent."""

    number: int
    process: BaseProcess
    connection: Connection
    work: bytes | None
    """What it will be given when it is ready; None from then on."""
    is_done: bool = False
    """Whether it has sent what it had to send."""

    @property
    def sources(self) -> tuple[Connection, int]:
        """What wakes when there is something to hear of it."""
        return self.connection, self.process.sentinel

    def take_message(self) -> bytes | None:
        """The next message; None if it died without one."""
        try:
            return self.connection.recv_bytes() if self.connection.poll() else None
        except (EOFError, ConnectionError):
            return None

    def give_work(self) -> None:
        """Sends it what it has to do. One that has died meanwhile is noticed soon enough."""
        assert self.work is not None
        with suppress(ConnectionError):
            self.connection.send_bytes(self.work)
        self.work = None

    def death(self, threads_instead: str) -> GptflowError:
        """The error for a worker that ended without results."""
        self.process.join(GRACE_S)
        code = self.process.exitcode
        if code == NO_GUARD_EXIT and self.work is not None:
            return no_guard_error(threads_instead)
        when = "before it began" if self.work is not None else "before it gave its results"
        told = f"worker {self.number} {_ending(code)} {when}"
        if code == -signal.SIGKILL:
            hint = "a system that is out of memory kills so: try fewer processes"
            return WorkerFailed(told, hint=hint)
        return WorkerFailed(told, hint="what it wrote to stderr may say why" if code else None)


def _ending(code: int | None) -> str:
    """How a process has ended, by its exit code as multiprocessing gives it."""
    if code is None:
        return "closed its connection"
    if code >= 0:
        return f"ended with exit code {code}"
    known = {signal_.value: signal_.name for signal_ in signal.Signals}
    return f"was killed by {known.get(-code, f'signal {-code}')}"


def run_in_processes(job: Job, wrapper: GPTWrapper, chunks: Sequence[Any]) -> list[list[Any]]:
    """Each chunk's results, in order. Every chunk has a process, with a wrapper as `wrapper` is.

    When one fails or dies, and on Ctrl-C, the others are terminated, and killed after GRACE_S. If
    this process dies, they end by themselves.

    Raises:
        UsageError: what the workers need cannot travel to them; none was started.
        WorkerFailed: one has died, or its exception cannot leave its process.
        BaseException: what the first worker that failed has raised. Its cause is the traceback
            there.
    """
    context = process_context()
    require_importable(job.func, job.threads_instead)
    packed = [
        _packed(Work(number, job, wrapper.starting_at(number), chunk))
        for number, chunk in enumerate(chunks)
    ]
    workers: list[_Worker] = []
    try:
        for number in range(len(packed)):
            resource_tracker.ensure_running()  # when it starts, it ends the block of Ctrl-C
            with _interrupt_later():
                workers.append(_start(context, number, packed[number]))
            packed[number] = b""  # the worker has it now, and drops it once it is sent
        return _gathered(workers, job.threads_instead)
    finally:
        with _interrupt_later():
            _end(workers)


def _packed(work: Work) -> bytes:
    try:
        return pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  # whatever a class may raise that does not pickle
        raise _unsendable(work.job, work.chunk) from None


def _unsendable(job: Job, chunk: Any) -> UsageError:
    """Says which of the things that a worker needs cannot be pickled, and why."""
    parts = {
        job.name: job.func,
        **{f"args[{index}]": value for index, value in enumerate(job.args)},
        **{f"kwargs[{name!r}]": value for name, value in job.kwargs.items()},
        **{f"data, item {index} of a chunk,": value for index, value in enumerate(chunk)},
    }
    for name, value in parts.items():
        try:
            pickle.dumps(value)
        except Exception as error:  # noqa: BLE001  # as above
            if value is job.func and "<" in name_of(value):  # <lambda>, <locals>
                what = "a lambda" if name.endswith("<lambda>") else "a function inside another one"
                return UsageError(
                    f"{name} is {what}, which a worker process cannot be given",
                    hint=f"define it with `def` at the top of a file, or use {job.threads_instead}",
                )
            return UsageError(
                f"{name} cannot be given to a worker process: {error}",
                hint=f"give plain data, or use {job.threads_instead}",
            )
    return UsageError(f"{job.name} and its data cannot be given to a worker process")


def _start(context: BaseContext, number: int, work: bytes) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]  # each kind of context has its own
        target=live, args=(number, theirs), name=f"gptflow-worker-{number}"
    )
    try:
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()  # or the end of the worker would not end the connection
    return _Worker(number, process, ours, work)


def _gathered(workers: Sequence[_Worker], threads_instead: str) -> list[list[Any]]:
    results: list[list[Any]] = [[] for _ in workers]
    while pending := [worker for worker in workers if not worker.is_done]:
        sources = [source for worker in pending for source in worker.sources]
        # A signal that comes just before the thread falls asleep does not wake it: so look again.
        woken = set(wait(sources, SIGNAL_DELAY_S))
        for worker in pending:
            if woken.isdisjoint(worker.sources):
                continue
            message = worker.take_message()
            if message is None:
                raise worker.death(threads_instead)
            if message == READY:
                worker.give_work()
            else:
                worker.is_done = True
                results[worker.number] = _results(message, worker.number)
    return results


def _results(message: bytes, worker: int) -> list[Any]:
    try:
        value = pickle.loads(message)  # noqa: S301  # from a worker, which runs this program
    except Exception as error:
        raise UsageError(
            f"the results of worker {worker} cannot be read: {error}",
            hint="return plain data: texts, numbers, lists, dicts",
        ) from error
    if isinstance(value, Carried):
        raise value.error(worker)
    assert isinstance(value, list)
    return value


def _end(workers: Sequence[_Worker]) -> None:
    """Sees all processes to their end."""
    for worker in workers:
        if not worker.is_done:
            worker.process.terminate()
    deadline = time.monotonic() + GRACE_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
        worker.connection.close()
        worker.process.close()


@contextmanager
def _interrupt_later() -> Iterator[None]:
    """Holds a Ctrl-C back until the block has ended.

    A process that is started meanwhile does not hear one either, until it has a handler: it would
    die of it, with a traceback, in the middle of its imports.
    """
    is_main = threading.current_thread() is threading.main_thread()
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if is_main:  # the mask is this thread's alone: another one may still take the signal
        signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if came:
            signal.raise_signal(signal.SIGINT)
