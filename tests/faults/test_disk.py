"""Disks that are full, read-only or broken: the run says so, and goes on when they are mended."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gptflow.store.store import Store
from tests.faults.disks import failing_syncs, obey_permissions, small_disk
from tests.project import REVIEWS, Project, serving

ROWS = 150
CONCURRENCY = 8
SPEC = REVIEWS.replace("number }}.", "number }}. {{ text }}")
SPEC += f"parallelism: {{concurrency: {CONCURRENCY}}}\n"


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A run of ROWS rows that needs about a megabyte on the disk of its store."""
    changes = getattr(request, "param", {})
    with serving(tmp_path, {"latency": "5ms", "reply": "echo"} | changes) as project:
        project.write("spec.yaml", SPEC)
        project.write_rows([{"number": number, "text": "x" * 3000} for number in range(ROWS)])
        yield project


def finish(project: Project, *options: str) -> None:
    """Runs it to its end; no more is asked again than what was in flight at the fault."""
    project.gptflow("run", "spec.yaml", "-q", *options)
    asked = Counter(entry.request for entry in project.requests)
    assert len(asked) == ROWS
    assert sum(asked.values()) - ROWS <= CONCURRENCY


def numbers(project: Project, output: str = "out/labels.jsonl") -> list[int]:
    return [row["number"] for row in project.output(output)]


# ------------------------------------------------------------------ full


def test_a_full_disk_in_the_middle_of_a_run(project: Project, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        store = "small/reviews.db"
        said = project.gptflow("run", "spec.yaml", "-q", "--store", store, code=2)
        assert said.startswith(f"the store {store} has no room left on its disk: ")
        assert "Hint: make room; what was stored before is safe, and the same command" in said
        assert 0 < len(project.requests) < ROWS
        assert not (tmp_path / "out/labels.jsonl").exists()
        disk.grow()
        finish(project, "--store", store)
    assert numbers(project) == list(range(ROWS))


@pytest.mark.parametrize("spare", [0, 40_000], ids=["nothing", "some tables"])
def test_a_disk_with_room_for_no_store(project: Project, tmp_path: Path, spare: int) -> None:
    with small_disk(tmp_path / "small", "8m") as disk:
        disk.fill(spare)
        store = "small/reviews.db"
        said = project.gptflow("run", "spec.yaml", "-q", "--store", store, code=2)
        assert said.startswith(f"the store {store} ")
        assert "Hint: make room" in said
        assert project.requests == []
        disk.free()
        finish(project, "--store", store)


def test_a_full_disk_under_the_output_loses_nothing_that_is_stored(
    project: Project, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "100k") as disk:
        output = ("--set", "output.path=small/labels.jsonl")
        said = project.gptflow("run", "spec.yaml", "-q", *output, code=2)
        assert "small/labels.jsonl: cannot be written: No space left on device\nHint: " in said
        assert "make room or choose another place; the rows are in the store" in said
        assert not (disk.folder / "labels.jsonl").exists()
        disk.grow()
        finish(project, *output)
        assert numbers(project, "small/labels.jsonl") == list(range(ROWS))
    assert len(project.requests) == ROWS


@pytest.mark.parametrize("project", [{"latency": "150ms"}], indirect=True)
def test_a_full_disk_under_the_output_that_has_room_again_in_time(
    project: Project, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "100k") as disk:
        process = project.start("run", "spec.yaml", "-q", "--set", "output.path=small/labels.jsonl")
        while os.statvfs(disk.folder).f_bavail and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None
        disk.grow()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
        assert numbers(project, "small/labels.jsonl") == list(range(ROWS))


# ------------------------------------------------------------------ gone


def start(project: Project, *options: str, **how: Any) -> subprocess.Popen[str]:
    """Starts a run, and waits until it has asked a few rows."""
    process = project.start("run", "spec.yaml", "-q", *options, **how)
    deadline_s = time.monotonic() + 30
    while len(project.requests) < 3 * CONCURRENCY and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert process.poll() is None
    return process


def stopped(process: subprocess.Popen[str]) -> str:
    """What a run said that a fault has ended."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert "Traceback" not in out + err
    return out + err


def remove_folder(store: Path) -> None:
    shutil.rmtree(store.parent)


def remove_the_log(store: Path) -> None:
    store.with_name("reviews.db-wal").unlink()


def replace(store: Path) -> None:
    other = store.with_name("other.db")
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE holiday (photo)")
    other.replace(store)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove_folder, "reviews.db was removed"),
        (remove_the_log, "reviews.db-wal was removed"),
        (replace, "reviews.db was replaced by another file"),
    ],
)
@pytest.mark.parametrize("project", [{"latency": "100ms"}], indirect=True)
def test_a_store_that_is_lost_under_a_run_is_kept_beside(
    project: Project, harm: Callable[[Path], None], words: str
) -> None:
    process = start(project)
    harm(project.folder / ".gptflow/reviews.db")
    said = stopped(process)
    assert f".gptflow/{words} while the store was being written; all that it held is in" in said
    assert len(project.requests) < ROWS
    command = re.search(r"the same command with (--store \S+) goes on from there", said)
    assert command, said
    if harm is remove_folder:  # the others leave something at the store's place
        said = project.gptflow("run", "spec.yaml", "-q", code=2)
        assert "there is no store .gptflow/reviews.db, but what it held is kept beside it" in said
        assert f"Hint: {command[1]}  goes on from there" in said
    finish(project, *command[1].split())
    assert numbers(project) == list(range(ROWS))


@pytest.mark.parametrize("project", [{"latency": "100ms"}], indirect=True)
def test_a_run_whose_store_was_removed_leaves_the_store_of_the_next_one_alone(
    project: Project,
) -> None:
    """The last connection to a file removes the log of the file's name, whoever's that is."""
    first = start(project)
    first.send_signal(signal.SIGSTOP)
    shutil.rmtree(project.folder / ".gptflow")
    project.requests.clear()
    second = start(project, "--set", "output.path=out/second.jsonl")
    second.send_signal(signal.SIGSTOP)
    first.send_signal(signal.SIGCONT)
    assert "reviews.db was replaced by another file" in stopped(first)
    second.send_signal(signal.SIGCONT)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, out + err
    assert numbers(project, "out/second.jsonl") == list(range(ROWS))
    assert "150 of 150 rows done" in project.gptflow("runs", ".gptflow/reviews.db")
    assert "ok" in integrity(project.folder / ".gptflow/reviews.db")


def integrity(store: Path) -> str:
    with closing(sqlite3.connect(store)) as database:
        return str(database.execute("PRAGMA integrity_check").fetchall())


@pytest.mark.parametrize("project", [{"latency": "100ms"}], indirect=True)
def test_a_store_that_is_cut_short_under_a_run_stops_it(project: Project) -> None:
    process = start(project)
    os.truncate(project.folder / ".gptflow/reviews.db", 5000)
    said = stopped(process)
    assert "reviews.db was cut short" in said or "reviews.db is damaged" in said
    assert "gptflow doctor --store .gptflow/reviews." in said or "all that it held is" in said


@pytest.mark.parametrize("project", [{"latency": "100ms"}], indirect=True)
def test_a_lock_that_is_removed_is_taken_again(project: Project) -> None:
    process = start(project)
    lock = project.folder / ".gptflow/reviews.db.lock"
    lock.unlink()
    while not (lock.exists() and lock.read_bytes()):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    said = project.gptflow("run", "spec.yaml", "-q", code=2)
    process.send_signal(signal.SIGCONT)
    assert f"in use by process {process.pid} on " in said
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert numbers(project) == list(range(ROWS))


# ------------------------------------------------------------------ broken


def test_a_disk_whose_syncs_fail_ends_the_run_at_once(project: Project, tmp_path: Path) -> None:
    """After a failed sync the kernel may have dropped what was written: it is not tried again."""
    environment, sign = failing_syncs(tmp_path)
    process = start(project, env=environment)
    sign.touch()
    said = stopped(process)
    assert said.startswith("the store .gptflow/reviews.db got an error from its disk: disk I/O err")
    assert "Hint: check the disk; what was stored before is safe, and the same command" in said
    assert len(project.requests) < ROWS
    sign.unlink()
    finish(project)
    assert numbers(project) == list(range(ROWS))


def test_a_size_limit_is_a_full_disk(project: Project) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (500_000, 500_000))
    said = project.gptflow("run", "spec.yaml", "-q", code=2, preexec_fn=limit)
    assert said.startswith("the store .gptflow/reviews.db ")
    assert "Hint: " in said
    assert 0 < len(project.requests) < ROWS
    finish(project)
    assert numbers(project) == list(range(ROWS))


# ------------------------------------------------------------------ read-only


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("folder", "the folder of the store .gptflow/reviews.db cannot be made: "),
        ("store", "the store .gptflow/reviews.db cannot be written: "),
        ("output", "out/labels.jsonl: cannot be written: Permission denied"),
    ],
)
def test_where_one_may_not_write_nothing_is_asked(project: Project, harm: str, words: str) -> None:
    for name in (".gptflow", "out"):
        (project.folder / name).mkdir()
    if harm == "folder":
        (project.folder / ".gptflow").rmdir()
        project.folder.chmod(0o555)
    elif harm == "store":
        (project.folder / ".gptflow").chmod(0o555)
    else:
        (project.folder / "out").chmod(0o555)
    said = project.gptflow("run", "spec.yaml", "-q", code=2, preexec_fn=obey_permissions)
    project.folder.chmod(0o755)
    assert words in said
    assert project.requests == []


def test_a_store_on_a_disk_that_takes_no_writing_is_read(project: Project, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "8m") as disk:
        finish(project, "--store", "small/reviews.db")
        disk.forbid_writing()
        said = project.gptflow("run", "spec.yaml", "-q", "--store", "small/reviews.db", code=2)
        assert said.startswith("the store small/reviews.db cannot be written: ")
        assert "150 of 150 rows done" in project.gptflow("runs", "small/reviews.db")
        assert project.gptflow("export", "small/reviews.db").count('"label":') == ROWS
        assert "sound" in project.gptflow("doctor", "--store", "small/reviews.db")


# ------------------------------------------------------------------ on a network


def test_on_a_network_a_run_and_its_readers_share_a_rollback_journal(project: Project) -> None:
    """The mount table of the run's process is another one: the disk itself is as ever."""
    table = project.write(
        "mountinfo", f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / {project.folder} rw - nfs4 x rw\n"
    )
    script = f"mount --bind {table} /proc/$$/mountinfo && exec {sys.executable} -m gptflow "
    unshare = ["unshare", "--mount", "sh", "-c", script + "run spec.yaml -q"]
    if os.geteuid() or subprocess.run([*unshare[:2], "true"], check=False).returncode:
        pytest.skip("needs a mount namespace")
    process = subprocess.Popen(
        unshare, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    exports, deadline_s = 0, time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < deadline_s
        if project.requests:
            exported = project.gptflow("export", "reviews")
            exports += bool([json.loads(line)["number"] for line in rows_of(exported)])
        time.sleep(0.01)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert "reviews.db is on nfs4: it is written with a rollback journal" in err
    assert exports
    assert numbers(project) == list(range(ROWS))
    assert not (project.folder / ".gptflow/reviews.db-wal").exists()


def rows_of(exported: str) -> list[str]:
    return [line for line in exported.splitlines() if line.startswith("{")]


# ------------------------------------------------------------------ what is no store of ours


def test_a_store_of_a_newer_version_says_what_to_do(project: Project) -> None:
    with Store.open(project.folder / ".gptflow/reviews.db"):
        pass
    with closing(sqlite3.connect(project.folder / ".gptflow/reviews.db")) as database:
        database.execute("PRAGMA user_version = 99")
    for command in ("run spec.yaml", "export reviews", "doctor", "doctor --repair"):
        said = project.gptflow(*command.split(), code=2)
        assert "the store .gptflow/reviews.db has version 99; this gptflow knows versions" in said
        assert "Hint: pip install --upgrade gptflow" in said


def test_an_empty_file_is_taken_for_a_new_store(project: Project) -> None:
    project.write(".gptflow/reviews.db", "")
    assert "is an empty file\nHint: `gptflow run` fills it" in project.gptflow("doctor", code=2)
    finish(project)
    assert numbers(project) == list(range(ROWS))
