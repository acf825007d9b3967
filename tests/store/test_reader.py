from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from gptflow.errors import StoreError, StoreVersion
from gptflow.records import Failure, FailureKind, RowResult, Usage
from gptflow.store.reader import (
    FAILURE_GROUPS,
    PENDING_PAGE,
    RESULT_PAGE,
    RESULT_PAGE_BYTES,
    StoreReader,
)
from gptflow.store.record import DuplicateKey, FailureGroup, ModelUsage, RowCounts
from gptflow.store.store import Store
from tests.store.conftest import call, done, draft, failed, key, reply, rows, save


def test_there_is_nothing_to_read_before_the_first_run(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        StoreReader(path)
    assert not path.exists()


def test_an_empty_file_is_no_store_yet(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    with pytest.raises(StoreError, match="still empty"):
        StoreReader(tmp_path / "x.db")


def test_a_closed_store_can_be_read(path: Path) -> None:
    with Store.open(path) as store:
        run = store.begin_run(draft(), rows("a"))
        save(store, run.run_id, done(0))
    with StoreReader(path) as reader:
        assert [result.position for result in reader.results(run.run_id)] == [0]


def test_a_path_with_signs_that_mean_something_in_a_uri_is_read(tmp_path: Path) -> None:
    path = tmp_path / "50% of #1?" / "a b.db"
    with Store.open(path) as store:
        assert store.reader.runs() == []


def test_readers_see_each_commit_while_the_writer_goes_on(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a", "b")).run_id
    with StoreReader(store.path) as reader:
        seen = [reader.counts(run_id).done]
        for position in (0, 1):
            save(store, run_id, done(position))
            seen.append(reader.counts(run_id).done)
    assert seen == [0, 1, 2]


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError, match="readonly"):
        store.reader._all("DELETE FROM runs")


def test_a_half_read_iterator_does_not_hold_up_the_writers_log(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*range(PENDING_PAGE + 1))).run_id
    pending = store.reader.pending(run_id)
    next(pending)
    save(store, run_id, done(0))
    with closing(sqlite3.connect(store.path, timeout=0)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert sum(1 for _ in pending) == PENDING_PAGE


def test_results_come_back_as_they_were_saved(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a", "b")).run_id
    saved = [done(0, "x", "y", truncated=True), failed(1, "z")]
    save(store, run_id, *reversed(saved))
    assert list(store.reader.results(run_id)) == saved
    assert list(store.reader.results(run_id, start=1)) == saved[1:]
    assert list(store.reader.failed(run_id)) == saved[1:]


def test_results_are_those_of_one_run(store: Store) -> None:
    first, second, third = (store.begin_run(draft(), rows("a")).run_id for _ in range(3))
    for run_id in (first, third):
        save(store, run_id, done(0))
    assert list(store.reader.results(second)) == []


def test_iterators_go_on_over_page_borders(store: Store) -> None:
    count = PENDING_PAGE + RESULT_PAGE + 1
    run_id = store.begin_run(draft(), rows(*range(count))).run_id
    assert [row.position for row in store.reader.pending(run_id)] == list(range(count))
    save(store, run_id, *(done(position) for position in range(2 * RESULT_PAGE + 1)))
    positions = [result.position for result in store.reader.results(run_id)]
    assert positions == list(range(2 * RESULT_PAGE + 1))


def test_pages_of_large_rows_are_short_ones(store: Store) -> None:
    count, size = 7, RESULT_PAGE_BYTES // 3
    run_id = store.begin_run(draft(), rows(*range(count))).run_id
    raw = b'{"text": "%s"}' % (b"x" * size)
    large = [msgspec.structs.replace(done(position), raw=raw) for position in range(count)]
    save(store, run_id, *large)
    assert [result.position for result in store.reader.results(run_id)] == list(range(count))
    page = store.reader.finished_prefix(run_id, 0, RESULT_PAGE)
    assert [result.position for result in page] == [0, 1, 2]
    huge = msgspec.structs.replace(large[3], raw=b"{%s}" % (b" " * (RESULT_PAGE_BYTES + 1)))
    save(store, run_id, huge)
    assert store.reader.finished_prefix(run_id, 3, RESULT_PAGE) == [huge]


def test_a_row_of_a_damaged_store_is_named_where_it_stands(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*range(4))).run_id
    save(store, run_id, *(done(position) for position in range(4)))
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute("UPDATE results SET raw = 5 WHERE row_id & 3 = 2")
    assert [result.position for result in islice(store.reader.results(run_id), 2)] == [0, 1]
    with pytest.raises(StoreError, match="the result of row 2 of run 1"):
        list(store.reader.results(run_id))


def test_pending_rows_name_their_record_and_key(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a", "b", "c")).run_id
    save(store, run_id, done(1))
    assert list(store.reader.pending(run_id)) == [(0, 0, key("a"), 0), (2, 4, key("c"), 0)]


def test_rows_are_counted_by_what_became_of_them(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*"abcdef")).run_id
    save(store, run_id, done(0), done(3), failed(4))
    assert store.reader.counts(run_id) == RowCounts(pending=3, done=2, failed=1)


def test_the_finished_prefix_ends_before_the_first_pending_row(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*"abcde")).run_id
    save(store, run_id, done(0), failed(1), done(3))

    def prefix(start: int, limit: int) -> list[int]:
        return [row.position for row in store.reader.finished_prefix(run_id, start, limit)]

    assert prefix(0, 10) == [0, 1]
    assert prefix(1, 10) == [1]
    assert prefix(0, 1) == [0]
    assert prefix(2, 10) == []
    save(store, run_id, done(2), done(4))
    assert prefix(2, 10) == [2, 3, 4]
    assert prefix(5, 10) == []


def test_the_newest_reply_that_is_not_older_than_asked_is_found(store: Store) -> None:
    first = store.begin_run(draft(), rows("a")).run_id
    save(store, first, (call("q"), reply(b"old")))
    second = store.begin_run(draft(), rows("a")).run_id
    assert store.reader.find_reply(key("q"), since_run=second) is None
    save(store, second, (call("q"), reply(b"new")))
    assert store.reader.find_reply(key("q")) == b"new"
    assert store.reader.find_reply(key("other")) is None


def test_a_simulated_reply_is_never_taken_for_a_real_one(store: Store) -> None:
    mock = store.begin_run(draft(server="mock"), rows("a")).run_id
    save(store, mock, (call("q"), reply(b"pretended")))
    assert store.reader.find_reply(key("q")) is None
    assert store.reader.find_reply(key("q"), "mock") == b"pretended"


def test_whether_there_are_replies_at_all_is_known(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    assert not store.reader.has_replies()
    save(store, run_id, (call("q"), reply()))
    assert store.reader.has_replies()


def test_the_latest_run_is_that_of_the_server_asked_for(store: Store) -> None:
    real, mock = (store.begin_run(draft(server=server), rows("a")) for server in ("", "mock"))
    assert store.reader.latest_run() == mock
    assert store.reader.latest_run("") == real
    assert store.reader.latest_run("local:tiny") is None
    assert store.reader.run(99) is None


def test_usage_adds_up_every_reply_that_was_paid_even_one_asked_again(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    cached = reply(usage=Usage(prompt_tokens=5, completion_tokens=1, cached_tokens=4))
    save(store, run_id, (call("q"), reply()), (call("q"), reply()), (call("r"), cached))
    assert store.reader.usage(run_id) == [ModelUsage("tiny", 3, 25, 5, 4)]


def test_usage_that_no_reply_told_is_unknown_and_not_zero(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    save(store, run_id, (call("q"), reply(usage=Usage())), (call("r"), reply(usage=Usage())))
    assert store.reader.usage(run_id) == [ModelUsage("tiny", 2, None, None, None)]


def test_what_is_estimated_is_added_up_apart_from_what_was_told(store: Store) -> None:
    run_id, other = (store.begin_run(draft(), rows("a")).run_id for _ in range(2))
    silent, half = reply(usage=Usage()), reply(usage=Usage(prompt_tokens=5))

    async def save_all() -> None:
        store.save_reply(run_id, call("q"), silent, Usage(30, 4))
        await store.save_reply(run_id, call("r"), half, Usage(0, 6))

    asyncio.run(save_all())
    assert store.reader.estimates(run_id) == {"tiny": Usage(30, 10)}
    assert store.reader.usage(run_id) == [ModelUsage("tiny", 2, 5, None, None)]
    assert store.reader.estimates(other) == {}


def test_a_count_that_no_server_can_mean_does_not_stop_the_store(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    save(store, run_id, (call("q"), reply(usage=Usage(prompt_tokens=10**30, completion_tokens=-1))))
    assert store.reader.usage(run_id) == [ModelUsage("tiny", 1, None, None, None)]


def test_failures_are_grouped_by_what_their_messages_share(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*range(4))).run_id
    messages = ["8,200 tokens are too many", "9,100 tokens are too many", "no label: it is 'x'"]
    save(store, run_id, *(failed(at, message=message) for at, message in enumerate(messages)))
    assert store.reader.failures(run_id) == [
        FailureGroup("invalid", "8,200 tokens are too many", 2),
        FailureGroup("invalid", "no label: it is 'x'", 1),
    ]


def test_a_reason_is_told_whole_where_it_is_the_same_for_all(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*range(5))).run_id
    messages = ["no label: it is 4", "no label: it is 5", "no JSON: 'x'", "no JSON: 'y'", "a\nb"]
    save(store, run_id, *(failed(at, message=message) for at, message in enumerate(messages)))
    assert store.reader.failures(run_id) == [
        FailureGroup("invalid", "no label: it is 4", 2),
        FailureGroup("invalid", "no JSON", 2),
        FailureGroup("invalid", "a", 1),
    ]


def test_failures_of_templates_are_told_with_what_was_wrong(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*range(3))).run_id
    wrong = ("no attribute 'a'", "division by zero", "division by zero")
    for at, reason in enumerate(wrong):
        failure = Failure(FailureKind.TEMPLATE, f"prompt of step 'x': {reason}")
        save(store, run_id, msgspec.structs.replace(failed(at), failure=failure))
    assert store.reader.failures(run_id) == [
        FailureGroup("template", "prompt of step 'x': division by zero", 2),
        FailureGroup("template", "prompt of step 'x': no attribute 'a'", 1),
    ]


def test_failures_without_end_do_not_make_groups_without_end(store: Store) -> None:
    letters = [chr(0x4E00 + at) for at in range(FAILURE_GROUPS + 20)]
    run_id = store.begin_run(draft(), rows(*letters)).run_id
    save(store, run_id, *(failed(at, message=letter) for at, letter in enumerate(letters)))
    groups = store.reader.failures(run_id)
    assert len(groups) == FAILURE_GROUPS + 1
    assert groups[0] == FailureGroup("invalid", "other reasons", 20)


def test_duplicate_keys_are_told_with_their_first_records(store: Store) -> None:
    run_id = store.begin_run(draft(), rows(*"abacaaxb")).run_id
    expected = [DuplicateKey(key("a"), (0, 4, 8), 4), DuplicateKey(key("b"), (2, 14), 2)]
    assert store.reader.duplicate_keys(run_id, 5) == expected
    assert store.reader.duplicate_keys(run_id, 1) == expected[:1]


def test_a_failure_keeps_all_that_is_known_of_it(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    failure = Failure(
        kind=FailureKind.REJECTED,
        message="too long",
        step="label",
        status=400,
        code="context_length_exceeded",
        attempts=1,
        reply="\u2028 odd \x00 text",
    )
    result = RowResult(position=0, status=failed(0).status, raw=b"{}", failure=failure)
    save(store, run_id, result)
    assert list(store.reader.failed(run_id)) == [result]


def test_a_store_of_a_newer_gptflow_is_not_read(store: Store) -> None:
    store._writer.call(lambda db: db.execute("PRAGMA user_version = 99"))
    with pytest.raises(StoreVersion, match="version 99"):
        StoreReader(store.path)
