from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.errors import DataError, StoreCorrupt, StoreError
from gptflow.store.ledger import CHUNK
from gptflow.store.record import LedgerRow, RowCounts, RunStatus, Surveyed
from gptflow.store.run import RunChange
from gptflow.store.store import Store
from tests.store.conftest import call, digest_of, done, draft, failed, key, reply, rows, save


def test_a_new_store_makes_its_folder(path: Path) -> None:
    with Store.open(path) as store:
        assert store.reader.runs() == []


def test_a_run_is_read_back_as_it_was_begun(path: Path) -> None:
    with Store.open(path, clock=lambda: 1234.5) as store:
        run = store.begin_run(
            draft(server="mock"), rows("a", "b"), lambda _: Surveyed(["text", "übel"], "proof")
        )
        assert store.reader.run(run.run_id) == run
        assert store.reader.source_proof(run.run_id) == "proof"
    assert (run.name, run.server, run.fresh) == ("label", "mock", False)
    assert (run.status, run.rows, run.started_at) == (RunStatus.RUNNING, 2, 1234.5)
    assert (run.columns, run.fields) == (("text", "übel"), ("label", "reason"))


def test_columns_are_asked_for_after_the_last_row(store: Store) -> None:
    columns: list[str] = []

    def source() -> Iterator[LedgerRow]:
        yield from rows("a", "b")
        columns.append("seen last")

    assert store.begin_run(draft(), source(), lambda _: Surveyed(columns)).columns == ("seen last",)


def test_the_ledger_digest_tells_other_rows_apart(store: Store) -> None:
    run = store.begin_run(draft(), rows("a", "b"))
    assert run.ledger_digest == digest_of(rows("a", "b"))
    assert run.ledger_digest != digest_of(rows("b", "a"))
    assert run.ledger_digest != digest_of(rows("a", "b", "c"))
    assert run.ledger_digest != digest_of([(0, 0, key("a")), (1, 7, key("b"))])


def test_the_ledger_digest_does_not_depend_on_how_rows_are_cut(store: Store) -> None:
    names = range(CHUNK + 1)
    assert store.begin_run(draft(), rows(*names)).ledger_digest == digest_of(rows(*names))


def test_a_source_that_breaks_leaves_no_run_and_no_rows(store: Store, path: Path) -> None:
    def source() -> Iterator[LedgerRow]:
        yield from rows(*range(CHUNK + 1))
        raise DataError("line 7 is not JSON")

    with pytest.raises(DataError):
        store.begin_run(draft(), source())
    assert store.reader.runs() == []
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM ledger").fetchone() == (0,)


def test_only_rows_with_the_same_key_get_ordinals(store: Store) -> None:
    run = store.begin_run(draft(), rows("a", "b", "a", "c", "a", "b"))
    ordinals = [row.ordinal for row in store.reader.pending(run.run_id)]
    assert ordinals == [0, 0, 1, 0, 2, 1]


def test_ordinals_are_counted_within_one_run(store: Store) -> None:
    store.begin_run(draft(), rows("a", "a"))
    run = store.begin_run(draft(), rows("a", "b"))
    assert [row.ordinal for row in store.reader.pending(run.run_id)] == [0, 0]


def test_a_run_that_ends_says_when_and_why(path: Path) -> None:
    times = iter(range(100, 200))
    with Store.open(path, clock=lambda: next(times)) as store:
        run_id = store.begin_run(draft(), rows("a")).run_id
        stop = RunChange(status=RunStatus.STOPPED, stop_reason="over budget")
        stopped = store.update_run(run_id, stop)
        resumed = store.update_run(run_id, RunChange(status=RunStatus.RUNNING))
        renamed = store.update_run(run_id, RunChange(output="other.jsonl", spec="new"))
    assert (stopped.ended_at, stopped.stop_reason) == (102.0, "over budget")
    assert (resumed.ended_at, resumed.stop_reason) == (None, "")
    assert (renamed.output, renamed.spec, renamed.status) == ("other.jsonl", "new", "running")


def test_a_run_that_was_still_going_is_interrupted_when_the_store_opens_again(path: Path) -> None:
    with Store.open(path) as store:
        run_id = store.begin_run(draft(), rows("a")).run_id
    with Store.open(path) as store:
        assert [run.status for run in store.reader.runs()] == [RunStatus.INTERRUPTED]
        assert store.reader.counts(run_id) == RowCounts(pending=1, done=0, failed=0)


def test_a_deleted_run_leaves_its_replies(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a")).run_id
    save(store, run_id, (call("a"), reply()), done(0, "a"))
    store.delete_run(run_id)
    assert store.reader.runs() == []
    assert list(store.reader.results(run_id)) == []
    assert store.reader.has_replies()


def test_rows_put_back_are_pending_and_keep_their_replies(store: Store) -> None:
    run_id = store.begin_run(draft(), rows("a", "b", "c")).run_id
    save(store, run_id, (call("a"), reply(b"paid")), done(0, "a"), failed(1), failed(2))
    store.put_back(run_id, [0, 2])
    assert [row.position for row in store.reader.pending(run_id)] == [0, 2]
    assert [row.position for row in store.reader.results(run_id)] == [1]
    assert store.reader.find_reply(key("a")) == b"paid"


def test_closing_leaves_one_file_beside_the_lock(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run(draft(), rows("a"))
        store.reader.runs()
    assert sorted(file.name for file in path.parent.iterdir()) == ["label.db", "label.db.lock"]


def test_closing_twice_is_harmless(path: Path) -> None:
    store = Store.open(path)
    store.close()
    store.close()


def test_a_closed_store_refuses_to_write(path: Path) -> None:
    with Store.open(path) as store:
        pass
    with pytest.raises(StoreError, match="is closed"):
        store.delete_run(1)


@pytest.mark.parametrize("content", [b"{}", b'{"text": "not a database"}\n' * 1000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="no store at all"):
        Store.open(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE holiday (photo)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="not a store of gptflow"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_refused_store_is_not_left_locked(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreCorrupt):
        Store.open(path)
    path.unlink()
    Store.open(path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/label\.db cannot be made"):
        Store.open(tmp_path / "file" / "label.db")


def test_a_folder_in_the_place_of_the_store_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="is a folder"):
        Store.open(path)
