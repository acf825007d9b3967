from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from gptflow.errors import StoreError
from gptflow.store.record import RowCounts
from gptflow.store.spacing import Spacing
from gptflow.store.store import Store
from tests.store.conftest import call, done, draft, key, reply, rows, save

SLOW_S = 0.05
"""A spacing that leaves a second group time to gather."""


def fill_disk(store: Store) -> None:
    """From now on SQLite finds no room for another page."""
    store._writer.call(lambda db: db.execute("PRAGMA max_page_count = 1").fetchall())


def test_a_future_resolves_when_others_can_read_the_row(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id

    async def saved() -> RowCounts:
        await store.save_result(run_id, done(0))
        return store.reader.counts(run_id)

    assert asyncio.run(saved()).done == 1


def test_what_gathers_while_a_group_commits_is_one_group(path: Path) -> None:
    with Store.open(path, spacing=Spacing(SLOW_S, SLOW_S)) as store:
        run_id = store.begin_run(draft(), rows(*range(50))).run_id
        groups = 0

        def count(statement: str) -> None:
            nonlocal groups
            groups += statement == "COMMIT"

        store._writer.call(lambda db: db.set_trace_callback(count))
        save(store, run_id, *(done(position) for position in range(50)))
        assert store.reader.counts(run_id).done == 50
    assert groups <= 3  # the call's own, the first row's, all others'


def test_a_waiter_that_is_cancelled_stops_neither_the_write_nor_the_others(path: Path) -> None:
    async def saved(store: Store, run_id: int) -> None:
        first, second = (store.save_result(run_id, done(at)) for at in (0, 1))
        first.cancel()
        await second

    with Store.open(path, spacing=Spacing(SLOW_S, SLOW_S)) as store:
        run_id = store.begin_run(draft(), rows("a", "b")).run_id
        asyncio.run(saved(store, run_id))
        assert store.reader.counts(run_id).done == 2


def test_a_loop_that_ends_before_the_commit_loses_nothing(path: Path) -> None:
    async def queued(store: Store, run_id: int) -> None:
        store.save_result(run_id, done(0))

    with Store.open(path, spacing=Spacing(SLOW_S, SLOW_S)) as store:
        run_id = store.begin_run(draft(), rows("a")).run_id
        asyncio.run(queued(store, run_id))
    with Store.open(path) as store:
        assert store.reader.counts(run_id).done == 1


def test_loops_in_several_threads_write_at_once(store: Store) -> None:
    count = 4 * 25
    run_id = store.begin_run(draft(), rows(*range(count))).run_id

    def work(worker: int) -> None:
        for position in range(worker, count, 4):
            save(store, run_id, (call(position), reply()), done(position, position))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.reader.counts(run_id) == RowCounts(pending=0, done=count, failed=0)
    assert store.reader.usage(run_id)[0].calls == count


def test_a_row_that_is_saved_twice_is_what_it_was_saved_as_last(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    save(store, run_id, done(0, "first"), done(0, "second"))
    assert [result.calls for result in store.reader.results(run_id)] == [(key("second"),)]


def test_a_change_of_the_run_waits_for_all_that_was_saved_before_it(path: Path) -> None:
    async def saved(store: Store, run_id: int) -> int:
        store.save_result(run_id, done(0))
        store.put_back(run_id, [])
        return store.reader.counts(run_id).done

    with Store.open(path, spacing=Spacing(SLOW_S, SLOW_S)) as store:
        run_id = store.begin_run(draft(), rows("a")).run_id
        assert asyncio.run(saved(store, run_id)) == 1


def test_a_full_disk_is_told_to_everyone_who_waits_and_to_all_after_them(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*range(100))).run_id
    save(store, run_id, done(0))
    fill_disk(store)

    async def told() -> list[BaseException | None]:
        big = (store.save_reply(run_id, call(at), reply(b"x" * 9000)) for at in range(1, 100))
        return await asyncio.gather(*big, return_exceptions=True)

    assert {str(error).split(":")[0] for error in asyncio.run(told())} == {
        f"the store {store.path} has no room left on its disk"
    }
    with pytest.raises(StoreError, match="no room left"):
        save(store, run_id, done(1))
    with pytest.raises(StoreError, match="no room left"):
        store.put_back(run_id, [0])
    assert store.reader.counts(run_id).done == 1


def test_after_a_failure_nothing_is_written_even_if_there_is_room_again(path: Path) -> None:
    with Store.open(path) as store:
        run_id = store.begin_run(draft(), rows("a", "b")).run_id
        fill_disk(store)
        with pytest.raises(StoreError):
            save(store, run_id, (call("q"), reply(b"x" * 9000)))
        store._writer._connection.execute("PRAGMA max_page_count = 100000")
        with pytest.raises(StoreError):
            save(store, run_id, done(0))
    with Store.open(path) as store:
        assert store.reader.counts(run_id) == RowCounts(pending=2, done=0, failed=0)
        save(store, run_id, done(0))


def test_an_error_that_nobody_waited_for_makes_no_noise(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    fill_disk(store)

    async def ignored() -> None:
        store.save_reply(run_id, call("q"), reply(b"x" * 9000))
        await asyncio.wait([store.save_result(run_id, done(0))])
        store.save_result(run_id, done(0))

    asyncio.run(ignored())
    assert caplog.records == []


def test_a_bug_in_a_job_is_undone_and_told_and_the_writer_goes_on(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a", "b")).run_id

    def faulty(db: sqlite3.Connection) -> float:
        db.execute("DELETE FROM ledger")
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        store._writer.call(faulty)
    assert store.reader.counts(run_id).pending == 2
    save(store, run_id, done(0))
    assert store.reader.counts(run_id).done == 1


def test_a_save_that_cannot_be_written_loses_none_that_are_in_its_group(path: Path) -> None:
    async def told(store: Store, run_id: int) -> list[BaseException | None]:
        unwritable = store._writer.submit(("UPDATE runs SET spec = ?", ("\ud800",)))
        saves = [store.save_result(run_id, done(at)) for at in range(3)]
        return await asyncio.gather(saves[0], unwritable, *saves[1:], return_exceptions=True)

    with Store.open(path, spacing=Spacing(SLOW_S, SLOW_S)) as store:
        run_id = store.begin_run(draft(), rows("a", "b", "c")).run_id
        first, error, *others = asyncio.run(told(store, run_id))
        assert isinstance(error, UnicodeEncodeError)
        assert [first, *others] == [None] * 3
        assert store.reader.counts(run_id).done == 3
