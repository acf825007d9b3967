"""The store as its one writing process holds it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import msgspec

from gptflow.errors import StoreError
from gptflow.files import sync_folder
from gptflow.records import Call, Reply, RowResult, RowStatus, Usage
from gptflow.store.batches import Batches
from gptflow.store.connection import (
    DATABASE_ERRORS,
    connect_reader,
    connect_writer,
    prepare_writer,
    refuse_damaged_log,
    refuse_folder,
    refuse_lost_file,
    store_error,
)
from gptflow.store.filesystem import MOUNTINFO, filesystem_of, followed, is_network
from gptflow.store.known_calls import KnownCalls
from gptflow.store.ledger import (
    LedgerDigest,
    chunks,
    insert_rows,
    number_duplicates,
    put_back,
    reopen_failed,
    reopen_truncated,
)
from gptflow.store.lock import StoreLock
from gptflow.store.migration import migrate, stored_version
from gptflow.store.place import Place
from gptflow.store.reader import StoreReader
from gptflow.store.record import LedgerRow, RunDraft, RunRecord, Surveyed, row_id
from gptflow.store.reuse import SharedRows, copy_done, copy_rows, find_done, forget_found
from gptflow.store.run import (
    RunChange,
    change_run,
    delete_run,
    insert_run,
    set_running,
    tidy_runs,
)
from gptflow.store.spacing import Spacing
from gptflow.store.writer import Write, Writer

REUSE_CHUNK = 20_000
"""Positions whose results are copied in one transaction."""

_STATUS_CODES = {RowStatus.PENDING: 0, RowStatus.DONE: 1, RowStatus.FAILED: 2}

_SAVE_CALL = """
INSERT INTO calls (call_key, run_id, step, model, key_name, finish_reason, prompt_tokens,
                   completion_tokens, cached_tokens, attempts, latency_s, asked_at, stale, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_ESTIMATE = """
INSERT INTO estimates VALUES (?, ?, ?, ?)
ON CONFLICT (run_id, model) DO UPDATE SET
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens
"""
_SAVE_RESULT = "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)"
_SET_STATUS = "UPDATE ledger SET status = ? WHERE row_id = ?"
_NO_WAL = (
    "the store {path} is on {kind}: it is written with a rollback journal, which is safe there and"
    " slower; --store FILE puts it on a local disk"
)


class Store:
    """A store that this process writes, and no other process meanwhile.

    `save_reply` and `save_result` are for the threads of event loops and do not wait; everything
    else that writes waits for the disk. Once the disk has failed, all of it raises StoreError.
    """

    def __init__(
        self, path: Path, writer: Writer, clock: Callable[[], float], resources: ExitStack
    ) -> None:
        self.path = path
        self._writer = writer
        self._clock = clock
        self._resources = resources
        self._known = KnownCalls()
        self.note: str | None = None
        """What a person should know of where the store is."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        spacing: Spacing | None = None,
        mountinfo: Path = MOUNTINFO,
    ) -> Self:
        """Open the store, or make a new one with its folder. A link is the file it leads to.

        Runs that a killed process left running are interrupted then. Raises StoreLocked (naming
        the holder), StoreVersion, StoreCorrupt, or StoreError if the file cannot be written.
        """
        refuse_folder(path)
        _make_folder(path)
        path = followed(path)  # behind it: a link to a disk that is not there makes no folder
        with ExitStack() as resources:
            lock = StoreLock(path, clock())
            resources.callback(lock.release)
            kind = filesystem_of(path, mountinfo)
            connection, has_wal = _open_database(path, resources, wal=not is_network(kind))
            keeper = _keep(path, resources)
            writer = Writer(connection, path, Place(path, lock), spacing=spacing)
            resources.callback(_finish, writer, connection, keeper)
            kept = resources.pop_all()
        store = cls(path, writer, clock, kept)
        if not has_wal:
            store.note = _NO_WAL.format(path=path, kind=kind or "a disk without shared memory")
        return store

    def close(self) -> None:
        """Commit what is queued, move it all into the one file, and let the next process in."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def reader(self) -> StoreReader:
        """The store's own reader, for one thread: it asks for it first, and closes the store."""
        reader = StoreReader(self.path)
        self._resources.callback(reader.close)
        return reader

    @cached_property
    def batches(self) -> Batches:
        """What is with a provider's Batch API; read on the thread that asks for it first."""
        batches = Batches(self.path, self._writer, self._clock)
        self._resources.callback(batches.close)
        return batches

    def begin_run(
        self,
        draft: RunDraft,
        rows: Iterable[LedgerRow],
        survey: Callable[[int], Surveyed] = lambda _: Surveyed(),
        shared: SharedRows | None = None,
    ) -> RunRecord:
        """Write a run with its ledger, every row pending; it is running when this returns.

        `rows` are taken in their order, with positions from 0 without gaps. After the last of them
        `survey` is asked what is known of the source, with the run's number, whose rows a reader
        can see by then. If either raises, or the process ends, there is no such run. With `shared`
        that run's rows come first, done where it has done them.
        """
        run_id = self._writer.call(lambda db: insert_run(db, draft, self._clock()))
        digest = LedgerDigest() if shared is None else shared.digest
        first_own = digest.rows
        with ExitStack() as undo:
            undo.callback(self.delete_run, run_id)
            if shared is not None:
                self._writer.call(partial(copy_rows, run_id=run_id, shared=shared))
            for chunk in chunks(rows):
                digest.add(chunk)
                self._insert_rows(run_id, chunk)
            surveyed = survey(run_id)

            def complete(db: sqlite3.Connection) -> RunRecord:
                if digest.rows > first_own:
                    number_duplicates(db, run_id, first_own)
                return set_running(db, run_id, digest, surveyed)

            run = self._writer.call(complete)
            undo.pop_all()
        self._known.begin_run(run.run_id)
        return run

    def _insert_rows(self, run_id: int, chunk: list[LedgerRow]) -> None:
        self._writer.call(lambda db: insert_rows(db, run_id, chunk))

    def update_run(self, run_id: int, change: RunChange) -> RunRecord:
        """Change a run after all writes that are queued, and give it as it is then."""
        return self._writer.call(lambda db: change_run(db, run_id, change, self._clock()))

    def delete_run(self, run_id: int) -> None:
        """Remove a run and its rows. Its replies stay: they are paid."""
        self._writer.call(lambda db: delete_run(db, run_id))

    def reuse_rows(self, run_id: int) -> int:
        """Take pending rows that an earlier run of the same plan and server has done; how many.

        Rows are the same if their key in the ledger and their ordinal are, so that key must hang
        on the whole record: an edited row goes through its calls again. Runs before `since_run`
        are not looked at.
        """
        end = self._writer.call(lambda db: find_done(db, run_id))
        starts = range(row_id(run_id, 0), end, REUSE_CHUNK)
        reused = sum(self._copy_done(start, start + REUSE_CHUNK) for start in starts)
        self._writer.call(forget_found)
        return reused

    def _copy_done(self, first: int, end: int) -> int:
        return self._writer.call(lambda db: copy_done(db, first, end))

    def retry_failed(self, run_id: int) -> int:
        """Make the run's failed rows pending; how many.

        Replies to the step that failed are not found any more, those to the steps before it are.
        """
        return self._writer.call(lambda db: reopen_failed(db, run_id))

    def retry_truncated(self, run_id: int) -> int:
        """Make the run's rows with a reply that was cut off pending; how many.

        Those replies are not found any more, all others are.
        """
        return self._writer.call(lambda db: reopen_truncated(db, run_id))

    def put_back(self, run_id: int, positions: Iterable[int]) -> None:
        """Make these rows pending, as if they had not ended. Replies to them are found again."""
        self._writer.call(lambda db: put_back(db, run_id, positions))

    def find_reply(self, call_key: bytes, server: str = "", since_run: int = 0) -> bytes | None:
        """As the reader's `find_reply`, on its thread, but quick where there is no reply."""
        if self._known.lacks(call_key, since_run):
            return None
        body = self.reader.find_reply(call_key, server, since_run)
        if body is None:
            self._known.learn(since_run, self.reader.call_keys)
        return body

    def save_reply(
        self,
        run_id: int,
        call: Call,
        reply: Reply,
        estimated: Usage | None = None,
        *,
        stale: bool = False,
        along: tuple[Write, ...] = (),
    ) -> asyncio.Future[None]:
        """Store a reply; the future resolves when it is on the disk, or raises StoreError.

        Cancelling the future cancels the waiting only. `estimated`: the tokens that its server did
        not tell, which are added up apart and become durable with it. `stale`: it was paid, and
        is no answer to be found. `along`: what else becomes durable with it.
        """
        usage = reply.usage
        if not stale:
            self._known.add(call.key)
        parameters = (
            call.key,
            run_id,
            call.step,
            call.model,
            reply.key_name,
            reply.finish_reason,
            _storable(usage.prompt_tokens),
            _storable(usage.completion_tokens),
            _storable(usage.cached_tokens),
            reply.attempts,
            reply.latency_s,
            self._clock(),
            stale,
            reply.body,
        )
        if estimated is None:
            return self._writer.submit((_SAVE_CALL, parameters), *along)
        tokens = (estimated.prompt_tokens or 0, estimated.completion_tokens or 0)
        estimate = (run_id, call.model, *tokens)
        return self._writer.submit((_SAVE_CALL, parameters), (_ADD_ESTIMATE, estimate), *along)

    def save_result(self, run_id: int, result: RowResult) -> asyncio.Future[None]:
        """Store what became of a row; the future is that of `save_reply`.

        It never becomes durable before a reply that was saved before it, so that whoever waits for
        the result need not wait for its replies.
        """
        number = row_id(run_id, result.position)
        failure = None if result.failure is None else msgspec.json.encode(result.failure)
        calls = b"".join(result.calls)
        return self._writer.submit(
            (_SET_STATUS, (_STATUS_CODES[result.status], number)),
            (_SAVE_RESULT, (number, result.raw, result.fields, failure, calls, result.truncated)),
        )


def _storable(tokens: int | None) -> int | None:
    """None for a number that no server can mean: one that SQLite cannot hold would stop the run."""
    return tokens if tokens is None or 0 <= tokens < 1 << 63 else None


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder of the store {path} cannot be made: {error}",
            hint="choose another place with --store FILE",
        ) from error


def _open_database(
    path: Path, resources: ExitStack, *, wal: bool
) -> tuple[sqlite3.Connection, bool]:
    """The writer's connection, and whether the file has a WAL."""
    try:
        refuse_lost_file(path)
        connection = connect_writer(path)
        resources.callback(connection.close)
        stored_version(connection, path)
        refuse_damaged_log(connection, path)
        migrate(connection, path)
        has_wal = prepare_writer(connection, wal=wal)
        connection.execute("BEGIN IMMEDIATE")
        tidy_runs(connection)
        connection.execute("COMMIT")
    except DATABASE_ERRORS as error:
        raise store_error(path, error) from error
    sync_folder(path.parent)  # SQLite syncs what is in new files, not where they are
    return connection, has_wal


def _keep(path: Path, resources: ExitStack) -> sqlite3.Connection:
    """A connection that is closed after the writer's if that has failed.

    The last connection to a file removes the log of the file's name. Where another process has made
    a new store of that name meanwhile, that would be its log. One that only reads removes nothing.
    """
    keeper = connect_reader(path)
    resources.callback(keeper.close)
    return keeper


def _finish(writer: Writer, connection: sqlite3.Connection, keeper: sqlite3.Connection) -> None:
    writer.close()
    if writer.failed or connection.in_transaction:
        connection.close()
        return
    keeper.close()
    # What is committed is safe where it is: if there is no room to move it, or a reader is in the
    # way, the next opening does.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA busy_timeout = 1000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
