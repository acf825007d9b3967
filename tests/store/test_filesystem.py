from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.errors import StoreError, StoreLocked
from gptflow.store.connection import (
    BUSY_S,
    ROLLBACK_BUSY_S,
    connect_reader,
    connect_writer,
    prepare_writer,
)
from gptflow.store.filesystem import filesystem_of, is_network
from gptflow.store.lock import holder_of
from gptflow.store.reader import StoreReader
from gptflow.store.store import Store
from tests.store.conftest import call, done, draft, reply, rows, save


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    """A mount table in which tmp_path is on a network."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"2 1 0:20 / {tmp_path} rw shared:1 - xfs /dev/vdb rw\n"
        f"3 2 0:21 / {tmp_path} rw - nfs4 server:/share rw\n"
        f"4 3 0:22 / {tmp_path}/a\\040b rw master:2 propagate_from:1 - cifs //server/c rw\n"
        "a line of a kernel that is not written yet\n"
    )
    return table


@pytest.mark.parametrize(
    ("place", "kind"), [("x.db", "nfs4"), ("a b/x.db", "cifs"), ("a/x.db", "nfs4"), ("/x", "ext4")]
)
def test_the_deepest_and_latest_mount_counts(
    tmp_path: Path, mountinfo: Path, place: str, kind: str
) -> None:
    assert filesystem_of(tmp_path / place, mountinfo) == kind


def test_a_link_is_where_it_leads_to(tmp_path: Path, mountinfo: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a b")
    assert filesystem_of(tmp_path / "link" / "x.db", mountinfo) == "cifs"


def test_a_linked_store_is_one_with_the_file_it_leads_to(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "x.db"
    link.symlink_to(".gptflow/label.db")
    path.parent.mkdir()
    with Store.open(link) as store:
        store.begin_run(draft(), rows("a"))
        with pytest.raises(StoreLocked):
            Store.open(path)
        assert holder_of(link) == holder_of(path) is not None
        with StoreReader(link) as reader:
            assert reader.counts(1).pending == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == [".gptflow", "x.db"]
    path.unlink()
    path.parent.joinpath("label.db.lock").unlink()
    path.parent.rmdir()
    with pytest.raises(StoreError, match="cannot be written"):
        Store.open(link)
    assert not path.parent.exists()


@pytest.mark.parametrize("door", [Store.open, StoreReader, holder_of])
def test_a_link_that_leads_back_to_itself_is_no_store(
    tmp_path: Path, door: Callable[[Path], object]
) -> None:
    link = tmp_path / "x.db"
    link.symlink_to("y.db")
    (tmp_path / "y.db").symlink_to("x.db")
    with pytest.raises(StoreError, match=r"x\.db is a link that leads back to itself"):
        door(link)
    assert filesystem_of(link)


@pytest.mark.parametrize("door", [Store.open, StoreReader])
def test_a_folder_that_leads_back_to_itself_holds_no_store(
    tmp_path: Path, door: Callable[[Path], object]
) -> None:
    (tmp_path / "x").symlink_to("x")
    with pytest.raises(StoreError):
        door(tmp_path / "x" / "x.db")


def test_without_a_mount_table_the_kind_is_unknown(tmp_path: Path) -> None:
    assert filesystem_of(tmp_path, tmp_path / "none") == ""


NETWORKS = "nfs nfs4 cifs smb3 9p lustre gpfs beegfs ceph afs fuse.sshfs fuse.s3fs"
DISKS = "ext4 xfs btrfs zfs tmpfs overlay fuseblk fuse.mergerfs nfsd"


def test_kinds_that_other_hosts_share_are_told_from_disks() -> None:
    assert [kind for kind in NETWORKS.split() if not is_network(kind)] == []
    assert [kind for kind in [*DISKS.split(), ""] if is_network(kind)] == []


def journal(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_store_on_a_network_has_a_rollback_journal_and_says_so(
    path: Path, mountinfo: Path
) -> None:
    with Store.open(path, mountinfo=mountinfo) as store:
        assert store.note is not None
        assert "is on nfs4: it is written with a rollback journal" in store.note
        run_id = store.begin_run(draft(), rows(*range(300))).run_id
        for position in range(300):
            save(store, run_id, (call(position), reply()), done(position, position))
            assert store.reader.counts(run_id).done == position + 1
        assert journal(path) == "delete"  # none that the file itself would tell of
    with Store.open(path) as store:
        assert store.note is None
        assert journal(path) == "wal"
        assert store.reader.counts(run_id).done == 300
    with Store.open(path, mountinfo=mountinfo) as store:
        assert store.reader.counts(run_id).done == 300


def test_where_sqlite_finds_no_shared_memory_it_gets_a_rollback_journal(path: Path) -> None:
    path.parent.mkdir()
    uri = f"{path.as_uri()}?vfs=unix-dotfile"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        assert not prepare_writer(connection, wal=True)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_commit_that_a_dead_process_has_begun_is_undone_for_a_reader(path: Path) -> None:
    path.parent.mkdir()
    with closing(connect_writer(path)) as writer:
        prepare_writer(writer, wal=False)
        writer.execute("CREATE TABLE t (x)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,)] * 100)
        half = path.with_name("half.db")
        for end in ("", "-journal"):
            half.with_name(half.name + end).write_bytes(
                path.with_name(path.name + end).read_bytes()
            )
        writer.execute("ROLLBACK")
    assert half.stat().st_size > 10_000
    with closing(connect_reader(half)) as reader:
        assert reader.execute("SELECT x FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize(("wal", "waits_s"), [(True, BUSY_S), (False, ROLLBACK_BUSY_S)])
def test_readers_wait_as_long_as_the_writer_where_it_holds_them_up(
    path: Path, wal: bool, waits_s: float
) -> None:
    path.parent.mkdir()
    with closing(connect_writer(path)) as writer:
        assert prepare_writer(writer, wal=wal) is wal
        writer.execute("CREATE TABLE t (x)")
        with closing(connect_reader(path)) as reader:
            assert reader.execute("PRAGMA busy_timeout").fetchone() == (1000 * waits_s,)
