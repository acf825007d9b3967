from __future__ import annotations

from msgspec.structs import replace

from gptflow.store.record import RowCounts
from gptflow.store.store import REUSE_CHUNK, Store
from tests.store.conftest import done, draft, failed, rows, save


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
