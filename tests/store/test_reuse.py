from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from gptflow.errors import DataError
from gptflow.store.record import LedgerRow, RowCounts
from gptflow.store.reuse import WORTH_ROWS, SharedRows
from gptflow.store.store import REUSE_CHUNK, Store
from tests.store.conftest import call, digest_of, done, draft, failed, key, reply, rows, save


def begin(store: Store, *names: object, plan: str = "plan", server: str = "") -> int:
    return store.begin_run(draft(plan, server), rows(*names)).run_id


def test_done_rows_are_taken_over_wherever_they_stand_now(store: Store) -> None:
    first = begin(store, "a", "b", "c")
    save(store, first, done(0, "x", truncated=True), failed(1))
    second = begin(store, "c", "new", "b", "a")
    assert store.reuse_rows(second) == 1
    assert list(store.reader.results(second)) == [done(3, "x", truncated=True)]
    assert store.reader.counts(second) == RowCounts(pending=3, done=1, failed=0)


def test_rows_with_the_same_key_are_told_apart_by_their_ordinal(store: Store) -> None:
    first = begin(store, "a", "a")
    save(store, first, done(1, "second a"))
    second = begin(store, "a", "a", "a")
    assert store.reuse_rows(second) == 1
    assert list(store.reader.results(second)) == [done(1, "second a")]


def test_rows_of_another_plan_or_server_are_not_taken(store: Store) -> None:
    for plan, server in (("other", ""), ("plan", "mock")):
        save(store, begin(store, "a", plan=plan, server=server), done(0))
    assert store.reuse_rows(begin(store, "a")) == 0


def test_rows_of_several_runs_are_taken_each_from_the_latest(store: Store) -> None:
    save(store, begin(store, "a", "b"), done(0, "old"), done(1, "old"))
    save(store, begin(store, "b", "c"), done(0, "new"), done(1, "new"))
    third = begin(store, "a", "b", "c")
    assert store.reuse_rows(third) == 3
    taken = list(store.reader.results(third))
    assert taken == [done(0, "old"), done(1, "new"), done(2, "new")]


def test_a_row_that_the_latest_run_has_not_done_is_not_taken_from_before_it(store: Store) -> None:
    save(store, begin(store, "a"), done(0, "was to be asked again"))
    begin(store, "a")
    assert store.reuse_rows(begin(store, "a")) == 0


def test_runs_before_the_one_named_are_not_looked_at(store: Store) -> None:
    first = begin(store, "a")
    save(store, first, done(0))
    fresh = store.begin_run(replace(draft(), fresh=True), rows("a")).run_id
    assert store.reuse_rows(fresh) == 0
    after = store.begin_run(replace(draft(), since_run=fresh), rows("a")).run_id
    assert store.reuse_rows(after) == 0


def test_reusing_twice_takes_nothing_twice(store: Store) -> None:
    save(store, begin(store, "a", "b"), done(0))
    second = begin(store, "a", "b")
    assert [store.reuse_rows(second), store.reuse_rows(second)] == [1, 0]


def test_more_rows_than_one_transaction_takes_are_taken_over(store: Store) -> None:
    count = REUSE_CHUNK + 1
    first = begin(store, *range(count))
    save(store, first, *(done(position) for position in range(count)))
    second = begin(store, *range(count))
    assert store.reuse_rows(second) == count
    assert store.reader.counts(second) == RowCounts(pending=0, done=count, failed=0)


def shared_with(store: Store, run_id: int, count: int, *, same_work: bool = True) -> SharedRows:
    """The first rows of a run, for one that begins with them."""
    shared = SharedRows(run_id, same_work=same_work)
    shared.digest.add(store.reader.ledger(run_id, 0, count))
    return shared


def begin_behind(store: Store, shared: SharedRows, *names: object) -> int:
    """A run of the shared rows, and behind them of others."""
    count = shared.digest.rows
    behind = [(count + position, record, key) for position, record, key in rows(*names)]
    return store.begin_run(draft(), behind, shared=shared).run_id


def test_a_run_begins_with_the_rows_of_another_and_with_what_that_has_done(store: Store) -> None:
    first = begin(store, "a", "b", "c")
    save(store, first, done(0, "x"), failed(1), done(2))
    second = begin_behind(store, shared_with(store, first, 2), "new")
    assert list(store.reader.results(second)) == [done(0, "x")]
    assert [row.position for row in store.reader.pending(second)] == [1, 2]
    run = store.reader.run(second)
    assert run is not None
    assert run.ledger_digest == digest_of([*rows("a", "b"), (2, 0, rows("new")[0][2])])


def test_a_run_of_another_plan_shares_rows_but_not_what_was_done(store: Store) -> None:
    first = begin(store, "a", "b")
    save(store, first, done(0), done(1))
    second = begin_behind(store, shared_with(store, first, 2, same_work=False))
    assert store.reader.counts(second) == RowCounts(pending=2, done=0, failed=0)
    assert list(store.reader.results(second)) == []


def test_rows_that_follow_shared_ones_are_told_apart_from_them(store: Store) -> None:
    first = begin(store, "a", "b", "a")
    second = begin_behind(store, shared_with(store, first, 3), "c", "a", "c")
    ordinals = [row.ordinal for row in store.reader.pending(second)]
    assert ordinals == [0, 0, 1, 0, 2, 1]


def test_results_are_stored_once_however_many_runs_have_taken_them_over(store: Store) -> None:
    first = begin(store, "a", "b")
    save(store, first, done(0, "x"), done(1, "y"))
    second = begin_behind(store, shared_with(store, first, 2), "c")
    third = begin(store, "c", "b", "a")
    assert store.reuse_rows(third) == 2
    assert list(store.reader.results(second)) == [done(0, "x"), done(1, "y")]
    assert list(store.reader.results(third)) == [done(1, "y"), done(2, "x")]
    assert store.reader.finished_prefix(second, 0, 10) == [done(0, "x"), done(1, "y")]
    with closing(sqlite3.connect(store.path)) as database:
        assert database.execute("SELECT count(*) FROM results").fetchone() == (2,)


def test_own_rows_and_those_taken_over_come_in_their_order(store: Store) -> None:
    save(store, begin(store, "a", "b"), done(0, "old a"), done(1, "old b"))
    second = begin(store, "new", "b", "newer", "a")
    store.reuse_rows(second)
    save(store, second, done(0, "0"), done(2, "2"))
    taken = [done(0, "0"), done(1, "old b"), done(2, "2"), done(3, "old a")]
    assert list(store.reader.results(second)) == taken
    assert list(store.reader.results(second, start=2)) == taken[2:]
    assert store.reader.finished_prefix(second, 1, 2) == taken[1:3]


def test_retrying_a_row_that_was_taken_over_leaves_the_run_it_came_from(store: Store) -> None:
    first = begin(store, "a", "b")
    save(store, first, (call("cut"), reply(finish_reason="length")))
    save(store, first, done(0, "cut", truncated=True), done(1, "whole"))
    second = begin(store, "a", "b")
    store.reuse_rows(second)
    assert store.retry_truncated(second) == 1
    assert [row.position for row in store.reader.pending(second)] == [0]
    assert store.reader.find_reply(key("cut")) is None
    save(store, second, done(0, "again"))
    assert list(store.reader.results(second)) == [done(0, "again"), done(1, "whole")]
    kept = [done(0, "cut", truncated=True), done(1, "whole")]
    assert list(store.reader.results(first)) == kept


def test_deleting_a_run_leaves_the_results_that_it_had_taken_over(store: Store) -> None:
    first = begin(store, "a")
    save(store, first, done(0, "x"))
    second = begin(store, "a")
    store.reuse_rows(second)
    store.delete_run(second)
    assert list(store.reader.results(second)) == []
    assert list(store.reader.results(first)) == [done(0, "x")]


def test_a_run_that_cannot_begin_leaves_nothing_of_what_it_shared(store: Store) -> None:
    first = begin(store, "a", "b")
    save(store, first, done(0, "x"), done(1))

    def broken() -> Iterator[LedgerRow]:
        yield (2, 2, key("c"))
        raise DataError("line 3 is broken")

    with pytest.raises(DataError):
        store.begin_run(draft(), broken(), shared=shared_with(store, first, 2))
    assert [run.run_id for run in store.reader.runs()] == [first]
    assert list(store.reader.results(first)) == [done(0, "x"), done(1)]
    with closing(sqlite3.connect(store.path)) as database:
        assert database.execute("SELECT count(*) FROM reused").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM ledger").fetchone() == (2,)


def test_a_run_that_was_killed_while_it_began_leaves_nothing_of_what_it_shared(path: Path) -> None:
    with Store.open(path) as store:
        first = begin(store, "a", "b")
        save(store, first, done(0, "x"), done(1))
        second = begin_behind(store, shared_with(store, first, 2), "c")
    with closing(sqlite3.connect(path)) as database:  # as a kill would leave it
        database.execute("UPDATE runs SET status = 'preparing' WHERE run_id = ?", (second,))
        database.commit()
    with Store.open(path) as store:
        assert [run.run_id for run in store.reader.runs()] == [first]
        assert list(store.reader.results(second)) == []
        assert list(store.reader.results(first)) == [done(0, "x"), done(1)]


def test_few_rows_are_not_looked_for_among_very_many(store: Store) -> None:
    many = range(WORTH_ROWS + 1)
    first = begin(store, *many)
    save(store, first, *(done(position) for position in many))
    assert store.reuse_rows(begin(store, WORTH_ROWS)) == 0
    assert store.reuse_rows(begin(store, 1, 0)) == 2


def test_a_run_that_is_too_long_to_look_into_hides_those_before_it(store: Store) -> None:
    save(store, begin(store, "a"), done(0, "was to be asked again"))
    begin(store, "a", *range(WORTH_ROWS))
    assert store.reuse_rows(begin(store, "a")) == 0
