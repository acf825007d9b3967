from __future__ import annotations

import threading
from pathlib import Path

from gptflow.store.known_calls import LEARNT_AT_ONCE, KnownCalls
from gptflow.store.store import Store
from tests.store.conftest import call, draft, key, reply, rows, save


def test_a_store_finds_what_it_has_saved_itself(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    assert store.find_reply(key("q")) is None
    assert store.find_reply(key("q"), since_run=run_id) is None
    save(store, run_id, (call("q"), reply(b"paid")))
    assert store.find_reply(key("q")) == b"paid"
    assert store.find_reply(key("q"), since_run=run_id) == b"paid"
    assert store.find_reply(key("other")) is None


def test_a_store_finds_what_earlier_processes_have_saved(path: Path) -> None:
    count = 3 * LEARNT_AT_ONCE + 7
    with Store.open(path) as store:
        run_id = store.begin_run(draft(), rows("a")).run_id
        save(store, run_id, *((call(n), reply(str(n).encode())) for n in range(count)))
    with Store.open(path) as store:
        for number in range(count):  # a question that finds nothing between two that do
            assert store.find_reply(key(f"new {number}")) is None
            assert store.find_reply(key(number)) == str(number).encode()


def test_an_interrupted_fresh_run_finds_its_replies_and_no_older_ones(path: Path) -> None:
    with Store.open(path) as store:
        old = store.begin_run(draft(), rows("a")).run_id
        save(store, old, (call("old"), reply(b"old")))
        fresh = store.begin_run(draft(), rows("a")).run_id
        save(store, fresh, (call("own"), reply(b"own")))
    with Store.open(path) as store:
        for _ in range(2):
            assert store.find_reply(key("own"), since_run=fresh) == b"own"
            assert store.find_reply(key("old"), since_run=fresh) is None
            assert store.find_reply(key("new"), since_run=fresh) is None


def test_a_simulated_reply_is_not_found_for_a_real_question(store: Store) -> None:
    run_id = store.begin_run(draft(server="mock"), rows("a")).run_id
    save(store, run_id, (call("q"), reply(b"pretended")))
    assert store.find_reply(key("q")) is None
    assert store.find_reply(key("q"), "mock") == b"pretended"


def test_a_new_run_need_not_read_what_it_may_not_reuse() -> None:
    known = KnownCalls()
    known.begin_run(5)

    def read(_behind: bytes, _limit: int) -> list[bytes]:
        raise AssertionError("the store was read")

    assert known.lacks(key("q"), since_run=5)
    known.learn(5, read)
    known.add(key("q"))
    assert not known.lacks(key("q"), since_run=5)


def test_no_question_waits_for_more_than_a_page_of_keys() -> None:
    known, stored = KnownCalls(), sorted(key(n) for n in range(2 * LEARNT_AT_ONCE + 1))
    asked: list[tuple[bytes, int]] = []

    def read(behind: bytes, limit: int) -> list[bytes]:
        asked.append((behind, limit))
        return [each for each in stored if each > behind][:limit]

    while not known.lacks(key("new"), since_run=0):
        known.learn(0, read)
    assert asked == [(behind, LEARNT_AT_ONCE) for behind in (b"", stored[999], stored[1999])]
    assert not any(known.lacks(each, since_run=0) for each in stored)


def test_threads_that_add_at_a_time_lose_no_key() -> None:
    known, keys = KnownCalls(), [key(n) for n in range(20_000)]
    known.begin_run(1)

    def add(part: int) -> None:
        for each in keys[part::4]:
            known.add(each)

    threads = [threading.Thread(target=add, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(known.lacks(each, since_run=1) for each in keys)
