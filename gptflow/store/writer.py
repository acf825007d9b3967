"""The one thread that writes: it takes all that is queued, commits it as one group, and repeats."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future as Outcome
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from gptflow.errors import StoreError
from gptflow.store.connection import store_error
from gptflow.store.place import Place
from gptflow.store.spacing import Spacing

T = TypeVar("T")

Write = tuple[str, tuple[Any, ...]]
"""A statement and its parameters."""


class _Save(msgspec.Struct, frozen=True):  # two for each row: a dataclass takes four times as long
    writes: tuple[Write, ...]
    future: asyncio.Future[None]


@dataclass(slots=True, frozen=True)
class _Job(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    outcome: Outcome[T]


_Item = _Save | _Job[Any] | None
"""What is queued; None asks the thread to end."""


class Writer:
    """Commits what any thread hands in, in the order of its coming, on a thread of its own.

    After the first error of the database nothing more is written, and everybody is told that error:
    once a commit has failed, the kernel may have dropped what it could not write, and a second
    try that succeeds would prove nothing. The same holds once the files are not in their place.

    Any other exception, such as of text that has no UTF-8, is of one write alone: it is undone, its
    waiter is told, and the others go on.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        place: Place,
        *,
        spacing: Spacing | None = None,
    ) -> None:
        """`spacing`: the least time between two groups, in place of what fits most loads."""
        self._connection = connection
        self._path = path
        self._place = place
        self._spacing = spacing or Spacing()
        self._next_group_at = 0.0
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._failure: StoreError | None = None
        self.failed = False
        """Whether the database has failed, and nothing is written any more."""
        # A daemon, so that a program that dies without closing its store does not hang at exit.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, *writes: Write) -> asyncio.Future[None]:
        """Queue writes that are committed together; call it on an event loop's thread.

        The future resolves once they are on the disk, or raises StoreError. Whoever cancels it
        stops waiting, not the write.
        """
        future = asyncio.get_running_loop().create_future()
        if self._failure is None:
            self._queue.put(_Save(writes, future))
        else:
            _resolve([future], self._failure)
        return future

    def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction of its own, after all that is queued, and wait for it."""
        if self._failure is not None:
            raise self._failure
        outcome: Outcome[T] = Outcome()
        self._queue.put(_Job(work, outcome))
        return outcome.result()

    def close(self) -> None:
        """Commit all that is queued and end the thread. Later writes are refused."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        taken: list[_Item] = []
        try:
            while None not in taken:
                taken = self._take()
                self._commit(taken)
        finally:
            # Nobody waits for ever: neither for writes that came too late, nor if a bug ends
            # this thread. What has been answered already stays as it is.
            self._failure = self._failure or StoreError(f"the store {self._path} is closed")
            self._commit([*taken, *self._drain()])

    def _take(self) -> list[_Item]:
        """Wait for the first item, then take all that has gathered."""
        first = self._queue.get()
        time.sleep(max(0.0, self._next_group_at - time.monotonic()))
        self._next_group_at = time.monotonic() + self._spacing.next_s()
        return [first, *self._drain()]

    def _drain(self) -> list[_Item]:
        items = []
        with suppress(queue.Empty):
            while True:
                items.append(self._queue.get_nowait())
        return items

    def _commit(self, items: Sequence[_Item]) -> None:
        """Commit the items in their order: jobs one by one, the saves between them as groups."""
        saves: list[_Save] = []
        for item in items:
            if isinstance(item, _Save):
                saves.append(item)
                continue
            self._commit_group(saves)
            saves = []
            if item is not None:
                self._commit_job(item)
        self._commit_group(saves)

    def _commit_group(self, saves: list[_Save]) -> None:
        if not saves:
            return
        error: Exception | None = None
        try:
            self._transact(partial(_write, saves))
        except StoreError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001  # a bug of one save must not lose the others
            if len(saves) > 1:
                for save in saves:
                    self._commit_group([save])
                return
            error = failure
        _settle(saves, error)

    def _commit_job(self, job: _Job[T]) -> None:
        if job.outcome.done():
            return
        try:
            job.outcome.set_result(self._transact(job.work))
        except Exception as failure:  # noqa: BLE001  # raised by `call`, on the caller's thread
            job.outcome.set_exception(failure)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._failure is not None:
            raise self._failure
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            result = _undone_by_bugs(work, self._connection)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._connection.execute("ROLLBACK")
            loss = self._place.loss(self._connection)
            raise self._fail(loss or store_error(self._path, error)) from error
        # Before anybody is told that it is on the disk: a file without a name does not stay there.
        loss = self._place.loss(self._connection)
        if loss is not None:
            raise self._fail(loss)
        return result

    def _fail(self, failure: StoreError) -> StoreError:
        """Write nothing any more, and tell everybody why."""
        self._failure = failure
        self.failed = True
        return failure


def _undone_by_bugs(work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    """The work's result. What is no error of the database ends the transaction on its way out."""
    try:
        return work(connection)
    except sqlite3.Error:
        raise
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _write(saves: list[_Save], connection: sqlite3.Connection) -> None:
    """Execute each statement once for all rows that it has in the group.

    That brings statements out of order, which is safe because no reader sees half a group.
    """
    batches: dict[str, list[tuple[Any, ...]]] = {}
    for save in saves:
        for statement, parameters in save.writes:
            batches.setdefault(statement, []).append(parameters)
    for statement, rows in batches.items():
        connection.executemany(statement, rows)


def _settle(saves: list[_Save], error: Exception | None) -> None:
    """Wake the waiters: one message for each event loop, however large the group."""
    waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for save in saves:
        waiting.setdefault(save.future.get_loop(), []).append(save.future)
    for loop, futures in waiting.items():
        with suppress(RuntimeError):  # the loop has been closed: nobody waits
            loop.call_soon_threadsafe(_resolve, futures, error)


def _resolve(futures: list[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():  # its waiter was cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            # Not every future is awaited, and one error needs no warning for each of them: the
            # next use of the store raises it again.
            future.exception()
