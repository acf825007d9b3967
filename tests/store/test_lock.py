from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gptflow.errors import StoreError, StoreLocked
from gptflow.store.lock import StoreLock
from gptflow.store.store import Store

HOLD = """
import sys
from pathlib import Path
from gptflow.store.store import Store
with Store.open(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """A process that has opened the store and keeps it until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_second_process_is_told_who_has_the_store(path: Path) -> None:
    with hold(path) as holder:
        with pytest.raises(StoreLocked) as caught:
            Store.open(path)
        holder.communicate()
    assert f"process {holder.pid} on {socket.gethostname()}, since 20" in caught.value.message
    Store.open(path).close()


def test_the_lock_of_a_killed_process_is_free(path: Path) -> None:
    with hold(path) as holder:
        holder.kill()
    Store.open(path).close()


def test_opening_twice_in_one_process_is_refused_too(store: Store) -> None:
    with pytest.raises(StoreLocked, match=f"process {os.getpid()} "):
        Store.open(store.path)


def test_the_first_process_goes_on_after_the_second_was_refused(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(StoreLocked):
            Store.open(store.path)


def test_a_program_that_the_holder_starts_does_not_inherit_the_lock(path: Path) -> None:
    store = Store.open(path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        store.close()
        Store.open(path).close()


def test_a_holder_that_has_not_written_its_name_yet_is_another_process(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path / "x.db", 0.0)
    (tmp_path / "x.db.lock").write_bytes(b'{"pid": 1')
    with pytest.raises(StoreLocked, match="in use by another process"):
        StoreLock(tmp_path / "x.db", 0.0)
    lock.release()


def test_a_lock_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db.lock").mkdir()
    with pytest.raises(StoreError, match=r"x\.db\.lock: Is a directory"):
        StoreLock(tmp_path / "x.db", 0.0)
