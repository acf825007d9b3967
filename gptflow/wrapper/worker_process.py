"""The inside of a worker process: from its first line to the message with its results."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from gptflow.errors import GptflowError, RunStopped, UsageError
from gptflow.wrapper.carried import Carried
from gptflow.wrapper.gpt_wrapper import GPTWrapper
from gptflow.wrapper.job import Job

READY = b""
"""The first message of a worker: it has been started, and wants its work."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker is given."""

    worker: int
    job: Job
    wrapper: GPTWrapper
    """Pickled without its keys, which it reads again; its engine is the worker's own."""
    chunk: Any


def live(worker: int, connection: Connection) -> None:
    """The process: says READY, takes a Work, sends its list of results or a Carried, and ends.

    The parent alone decides when it ends early: by SIGTERM, which unwinds what runs, so that it can
    clean up, or by its own death. A Ctrl-C, which the terminal sends to all, is the parent's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_die_with_parent, name="gptflow-parent", daemon=True).start()
    try:
        connection.send_bytes(READY)
        given = connection.recv_bytes()
        connection.send_bytes(_outcome(worker, given))
    except (EOFError, ConnectionError):
        raise SystemExit(1) from None  # the parent is gone, or wants nothing more


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _end_after_reply(wrapper: GPTWrapper) -> None:
    """Lets the call on the wire come back, and the next one raise; the parent's patience is short.

    In another thread: the one that hears the signal may hold what a call needs to begin.
    """
    reason = RunStopped("the pipeline has ended: another worker failed, or Ctrl-C")
    threading.Thread(target=wrapper.stop, args=(reason,), name="gptflow-end", daemon=True).start()


def _die_with_parent() -> None:
    """Ends the process when the parent has died: nobody will take its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _outcome(worker: int, given: bytes) -> bytes:
    """Does the work. The results, or the exception, pickled."""
    try:
        results = _done(_unpacked(given))
        return _packed(worker, results)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  # raised again by the parent
        return pickle.dumps(Carried.of(error))


def _done(work: Work) -> list[Any]:
    with closing(work.wrapper):
        if work.job.keeps_replies:
            signal.signal(signal.SIGTERM, lambda *_: _end_after_reply(work.wrapper))
        return work.job.results(work.worker, work.wrapper, work.chunk)


def _unpacked(given: bytes) -> Work:
    try:
        work = pickle.loads(given)  # noqa: S301  # from the parent, which runs this program
    except GptflowError:  # the configuration has changed meanwhile
        raise
    except Exception as error:
        raise UsageError(
            f"a worker process cannot read what it was given: {error}",
            hint="put the functions and classes that it needs into a module, in a file of its own",
        ) from error
    assert isinstance(work, Work)
    return work


def _packed(worker: int, results: list[Any]) -> bytes:
    try:
        return pickle.dumps(results, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise UsageError(
            f"the results of worker {worker} cannot leave its process: {error}",
            hint="return plain data: texts, numbers, lists, dicts",
        ) from error
