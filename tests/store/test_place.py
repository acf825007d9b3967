from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.errors import StoreError
from gptflow.store.place import unused_name
from gptflow.store.store import Store
from tests.store.conftest import call, done, draft, key, reply, rows, save


def remove(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def remove_shared_memory(path: Path) -> None:
    path.with_name(path.name + "-shm").unlink()


@pytest.mark.parametrize("harm", [remove, move_away, replace_by_a_copy, remove_shared_memory])
def test_what_was_saved_before_and_at_the_loss_is_in_the_copy(
    path: Path, harm: Callable[[Path], None]
) -> None:
    with Store.open(path) as store:
        run_id = store.begin_run(draft(), rows("a", "b")).run_id
        save(store, run_id, (call("a"), reply(b"first")), done(0, "a"))
        harm(path)
        with pytest.raises(StoreError) as caught:
            save(store, run_id, (call("b"), reply(b"second")), done(1, "b"))
        with pytest.raises(StoreError, match="while the store was being written"):
            store.put_back(run_id, [0])
    copy = path.with_name("label.rescued.db")
    assert f"all that it held is in {copy}" in caught.value.message
    assert f"--store {copy} goes on from there" in str(caught.value.hint)
    with Store.open(copy) as store:
        assert store.reader.counts(run_id).done == 2
        assert [store.reader.find_reply(key(name)) for name in "ab"] == [b"first", b"second"]


def test_a_folder_that_cannot_be_looked_at_for_a_while_is_no_loss(path: Path) -> None:
    with Store.open(path) as store:
        run_id = store.begin_run(draft(), rows("a", "b")).run_id
        away = path.parent.rename(path.parent.with_name("away"))
        path.parent.symlink_to(path.parent)  # any look at what is in it is an error now
        save(store, run_id, (call("a"), reply(b"first")), done(0, "a"))
        path.parent.unlink()
        away.rename(path.parent)
        save(store, run_id, (call("b"), reply(b"second")), done(1, "b"))
        remove(path)
        with pytest.raises(StoreError, match="was removed"):
            store.put_back(run_id, [0])
    with Store.open(path.with_name("label.rescued.db")) as store:
        assert [store.reader.find_reply(key(name)) for name in "ab"] == [b"first", b"second"]


def test_a_copy_takes_the_place_of_no_file(path: Path) -> None:
    path.parent.mkdir()
    for name in ("label.rescued.db", "label.rescued-2.db"):
        (path.parent / name).touch()
    assert unused_name(path, "rescued").name == "label.rescued-3.db"


def test_a_copy_of_a_file_that_was_cut_short_is_not_called_whole(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run(draft(), rows(*range(3000)))
    with Store.open(path) as store:  # most is in the file now, and little in memory
        os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
        with pytest.raises(StoreError, match=r"label\.db was cut short") as caught:
            store.put_back(1, [0])
    assert "what is left is in" in caught.value.message
    copy = path.with_name("label.rescued.db")
    assert f"gptflow doctor --store {copy} --repair" in str(caught.value.hint)


def test_where_no_copy_can_be_written_that_is_said(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run(draft(), rows("a"))
        shutil.rmtree(path.parent)
        path.parent.write_text("a file in the place of the folder")
        with pytest.raises(StoreError, match="no copy of it could be written") as caught:
            store.put_back(1, [0])
    assert "gptflow doctor --store" in str(caught.value.hint)


def test_another_store_that_has_come_to_the_name_is_left_alone(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run(draft(), rows("a"))
        path.unlink()
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE holiday (photo)")
        with pytest.raises(StoreError, match="was replaced by another file"):
            store.put_back(1, [0])
    assert path.with_name(path.name + "-wal").stat().st_size
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("SELECT count(*) FROM holiday").fetchone() == (0,)
    other.close()
