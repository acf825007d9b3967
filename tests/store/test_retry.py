from __future__ import annotations

import msgspec

from gptflow.store.record import RowCounts
from gptflow.store.store import Store
from tests.store.conftest import call, done, draft, failed, key, reply, rows, save


def test_failed_rows_are_pending_again_and_only_the_replies_that_failed_them_are_stale(
    store: Store,
) -> None:
    run_id = store.begin_run(draft(), rows("a", "b")).run_id
    for name, step in (("first", "label"), ("second", "apology"), ("again", "apology")):
        save(store, run_id, (call(name, step), reply(name.encode())))
    save(store, run_id, done(0, "first"), failed(1, "first", "second", "again", replies=2))
    assert store.retry_failed(run_id) == 1
    assert store.reader.counts(run_id) == RowCounts(pending=1, done=1, failed=0)
    assert [result.position for result in store.reader.results(run_id)] == [0]
    found = [store.reader.find_reply(key(name)) for name in ("first", "second", "again")]
    assert found == [b"first", None, None]


def test_a_reply_that_was_asked_again_is_found_and_the_stale_one_is_kept(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    save(store, run_id, (call("q"), reply(b"bad")), failed(0, "q"))
    store.retry_failed(run_id)
    save(store, run_id, (call("q"), reply(b"good")), done(0, "q"))
    assert store.reader.find_reply(key("q")) == b"good"
    assert store.reader.usage(run_id)[0].calls == 2


def test_nothing_failed_means_nothing_to_retry(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a", "b")).run_id
    save(store, run_id, done(0))
    assert store.retry_failed(run_id) == 0
    assert store.retry_truncated(run_id) == 0
    assert store.reader.counts(run_id) == RowCounts(pending=1, done=1, failed=0)


def test_truncated_rows_are_pending_again_and_only_what_was_cut_off_is_asked_again(
    store: Store,
) -> None:
    run_id = store.begin_run(draft(), rows("a", "b")).run_id
    save(store, run_id, (call("whole"), reply(b"whole")))
    save(store, run_id, (call("cut", "apology"), reply(b"cu", finish_reason="length")))
    save(store, run_id, done(0, "whole"), done(1, "whole", "cut", truncated=True))
    assert store.retry_truncated(run_id) == 1
    assert [row.position for row in store.reader.pending(run_id)] == [1]
    assert store.reader.find_reply(key("whole")) == b"whole"
    assert store.reader.find_reply(key("cut")) is None


def test_a_row_that_failed_for_being_truncated_is_retried_as_truncated(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    save(store, run_id, (call("cut"), reply(finish_reason="length")))
    save(store, run_id, msgspec.structs.replace(failed(0, "cut"), truncated=True))
    assert store.retry_truncated(run_id) == 1
    assert store.reader.counts(run_id) == RowCounts(pending=1, done=0, failed=0)


def test_other_runs_and_other_servers_are_left_alone(store: Store) -> None:
    real, mock = (
        store.begin_run(draft(server=server), rows("a")).run_id for server in ("", "mock")
    )
    for run_id in (real, mock):
        save(store, run_id, (call("q"), reply(b"kept")), failed(0, "q"))
    store.retry_failed(mock)
    assert store.reader.counts(real).failed == 1
    assert store.reader.find_reply(key("q")) == b"kept"
    assert store.reader.find_reply(key("q"), "mock") is None


def test_retrying_goes_through_more_rows_than_a_page_holds(store: Store) -> None:
    count = 1001
    run_id = store.begin_run(draft(), rows(*range(count))).run_id
    save(store, run_id, *((call(name), reply()) for name in range(count)))
    save(store, run_id, *(failed(position, position) for position in range(count)))
    assert store.retry_failed(run_id) == count
    assert store.reader.find_reply(key(count - 1)) is None
