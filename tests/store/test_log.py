from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.errors import StoreCorrupt
from gptflow.store.doctor import examine
from gptflow.store.log import commits_behind, log_of, valid_frames
from gptflow.store.store import Store
from tests.store.conftest import call, done, draft, key, reply, rows, save

SAVED = 20
HEADER = 32
SALTS = slice(16, 24)


@pytest.fixture
def killed(path: Path, tmp_path: Path) -> Path:
    """A store whose process died between the header of a new round of its log and the first frame.

    All of the round before is in the file by then, and in the log still. The new header is SQLite's
    own: of the commit that comes next.
    """
    copy = tmp_path / "killed.db"
    with Store.open(path) as store:
        run_id = store.begin_run(draft(), rows(*range(SAVED + 1))).run_id
        for position in range(SAVED):
            save(store, run_id, (call(position), reply()), done(position, position))
        with closing(sqlite3.connect(path)) as other:
            _, in_log, moved = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            assert in_log == moved > SAVED
            copy.write_bytes(path.read_bytes())
            log = log_of(path).read_bytes()
            save(store, run_id, (call(SAVED), reply()), done(SAVED, SAVED))
        header = log_of(path).read_bytes()[:HEADER]
    assert header[SALTS] != log[SALTS]
    log_of(copy).write_bytes(header + log[HEADER:])
    return copy


def test_a_log_that_a_killed_process_had_just_begun_anew_is_whole(killed: Path) -> None:
    assert (valid_frames(killed), commits_behind(killed, 0)) == (0, 0)
    assert examine(killed).problems == []


def test_of_a_process_killed_as_its_log_began_anew_all_commits_are_there(killed: Path) -> None:
    with Store.open(killed) as store:
        assert store.reader.counts(1).done == SAVED
        assert all(store.reader.find_reply(key(name)) for name in range(SAVED))


def test_a_damaged_header_does_not_hide_the_commits_behind_it(killed: Path) -> None:
    log = bytearray(log_of(killed).read_bytes())
    log[SALTS.start] ^= 1
    log_of(killed).write_bytes(log)
    assert commits_behind(killed, valid_frames(killed)) >= SAVED
    with pytest.raises(StoreCorrupt, match="commits in its log are behind a damaged place"):
        Store.open(killed)
