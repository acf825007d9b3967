from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.records import Call, Reply, Usage
from gptflow.store.batches import BatchCall, BatchChange, BatchDraft, BatchRecord, BatchStatus
from gptflow.store.doctor import examine, repair
from gptflow.store.store import Store
from tests.store.conftest import draft, rows

KEYS = [bytes([number]) * 16 for number in range(1, 4)]
CALLS = [BatchCall(key, "label", 10) for key in KEYS]


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as opened:
        opened.begin_run(draft(), rows("a", "b"))
        yield opened


def begin(store: Store, run_id: int = 1) -> BatchRecord:
    batch = BatchDraft(
        run_id=run_id,
        token="t1",
        model="m",
        endpoint="chat/completions",
        calls=3,
        tokens=30,
        size_bytes=99,
        digest="d",
    )
    return store.batches.begin(batch, CALLS)


def test_calls_are_on_their_way_from_the_moment_their_file_is_noted(store: Store) -> None:
    batch = begin(store)
    assert batch.status is BatchStatus.WRITTEN
    assert store.batches.way_of(KEYS[1]) == [batch.batch_id]
    assert store.batches.lines(batch.batch_id, KEYS[1:]) == dict(
        zip(KEYS[1:], CALLS[1:], strict=True)
    )
    assert store.batches.line_keys(batch.batch_id) == KEYS


def test_a_change_leaves_the_rest_as_it_was(store: Store) -> None:
    batch = begin(store)
    store.batches.change(batch.batch_id, BatchChange(status=BatchStatus.RUNNING, remote_id="b1"))
    (found,) = store.batches.open("")
    assert (found.status, found.remote_id, found.token) == (BatchStatus.RUNNING, "b1", "t1")
    assert store.batches.open("mock") == []


def test_a_line_goes_with_the_commit_of_its_reply(store: Store) -> None:
    batch = begin(store)
    call = Call(KEYS[0], "label", "m", [], {})
    reply = Reply("good", "stop", Usage(7, None, 2), "m", b"{}")
    estimated = Usage(0, 5)
    along = store.batches.arrival(batch, call.key, reply.usage, estimated)

    async def save() -> None:
        await store.save_reply(1, call, reply, estimated, along=along)

    asyncio.run(save())
    assert store.batches.left(batch.batch_id) == 2
    assert store.find_reply(call.key) == b"{}"
    assert store.batches.discounted(1) == {"m": Usage(7, 5, 2)}


def test_what_a_batch_leaves_unanswered_is_charged_once_it_has_ended(store: Store) -> None:
    batch = begin(store)
    store.batches.add_faults(batch, [(KEYS[0], b"first"), (KEYS[1], None)])
    store.batches.end(batch, b"rest")
    found = [[fault.verdict for fault in store.batches.faults(1, key)] for key in KEYS]
    assert found == [[b"first"], [], [b"rest"]]
    assert store.batches.open("") == []
    assert store.batches.left(batch.batch_id) == 0


def test_faults_of_calls_that_are_on_their_way_again_are_kept(store: Store) -> None:
    store.batches.end(begin(store), b"rest")
    again = store.batches.begin(
        BatchDraft(
            run_id=1,
            token="t2",
            model="m",
            endpoint="chat/completions",
            calls=1,
            tokens=10,
            size_bytes=9,
            digest="d",
        ),
        CALLS[:1],
    )
    store.batches.forget_faults(1)
    assert store.batches.faults(1, KEYS[0])
    assert not store.batches.faults(1, KEYS[1])
    store.batches.give_up(again)
    store.batches.forget_faults(1, also_on_the_way=True)
    assert not store.batches.has_faults(1)


def test_a_repaired_store_still_knows_what_is_with_the_provider(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run(draft(), rows("a", "b"))
        batch = begin(store)
        change = BatchChange(status=BatchStatus.RUNNING, remote_id="b1")
        store.batches.change(batch.batch_id, change)
    _damage(path)
    assert examine(path).problems
    assert repair(path, now=0.0) is not None
    with Store.open(path) as store:
        (found,) = store.batches.open("")
        assert found.remote_id == "b1"
        assert store.batches.line_keys(found.batch_id) == KEYS


def _damage(path: Path) -> None:
    """An index less than a store has: nothing else is touched."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("DELETE FROM sqlite_master WHERE name = 'batch_calls_by_key'")
        database.commit()
