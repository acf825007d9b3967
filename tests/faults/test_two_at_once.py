"""Two who want the same store, output or worker files: one has them, the other is told who."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.project import REVIEWS, Project, serving

ROWS = 40
SPEC = REVIEWS + "parallelism: {concurrency: 4}\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with serving(tmp_path, {"latency": "100ms", "reply": "echo"}) as project:
        project.write("spec.yaml", SPEC)
        project.write_rows([{"number": number} for number in range(ROWS)])
        yield project


@contextmanager
def held_up(process: subprocess.Popen[str]) -> Iterator[None]:
    """Meanwhile the process does not come to its end, however slow others are."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def ended_well(process: subprocess.Popen[str]) -> bool:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err
    return process.returncode == 0


def test_a_second_run_on_the_same_store_is_told_who_has_it(project: Project) -> None:
    first = project.start("run", "spec.yaml", "-q")
    project.wait_for_requests(4)
    with held_up(first):
        said = project.gptflow("run", "spec.yaml", "-q", "--set", "output.path=b.jsonl", code=2)
        refused = project.gptflow("doctor", "--repair", code=2)
    assert re.match(
        rf"the store \.gptflow/reviews\.db is in use by process {first.pid} on "
        rf"{re.escape(socket.gethostname())}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\n"
        "Hint: wait until that run is done, or stop it with Ctrl-C where it runs\n$",
        said,
    )
    assert f"in use by process {first.pid} on " in refused
    assert ended_well(first)
    assert len(project.requests) == ROWS


def test_a_second_run_on_the_same_store_by_a_link_is_told_who_has_it(project: Project) -> None:
    first = project.start("run", "spec.yaml", "-q", "--store", "real/w.db")
    project.wait_for_requests(4)
    (project.folder / "lw.db").symlink_to("real/w.db")
    with held_up(first):
        linked = ("-q", "--store", "lw.db", "--set", "output.path=b.jsonl")
        said = project.gptflow("run", "spec.yaml", *linked, code=2)
        looked = project.gptflow("doctor", "--store", "lw.db")
        assert "running" in project.gptflow("runs", "lw.db")
    for words in (said, looked):
        assert f"in use by process {first.pid} on " in words
    assert ended_well(first)
    assert len(project.requests) == ROWS
    project.gptflow("run", "spec.yaml", *linked)
    assert len(project.requests) == ROWS
    assert not (project.folder / "lw.db.lock").exists()


def test_a_second_run_to_the_same_output_is_told_who_writes_it(project: Project) -> None:
    first = project.start("run", "spec.yaml", "-q")
    project.wait_for_requests(4)
    with held_up(first):
        said = project.gptflow("run", "spec.yaml", "-q", "--store", "other.db", code=2)
        exported = project.gptflow("export", "reviews", "-o", "out/labels.jsonl", code=2)
    assert f"labels.jsonl: cannot be written: process {first.pid} is writing it\nHint: " in said
    assert f"process {first.pid} is writing it" in exported
    assert ended_well(first)
    assert len(project.requests) == ROWS
    assert len(project.output()) == ROWS


def test_what_a_killed_run_has_locked_is_taken_over(project: Project) -> None:
    first = project.start("run", "spec.yaml", "-q")
    project.wait_for_requests(8)
    first.kill()
    first.communicate()
    assert (project.folder / ".gptflow/reviews.db.lock").read_text()  # its name is still in there
    assert "sound" in project.gptflow("doctor")
    project.gptflow("run", "spec.yaml", "-q")
    assert len(project.output()) == ROWS


RACER = """
import sys
from pathlib import Path
from gptflow.errors import StoreLocked
from gptflow.store.store import Store
print("ready", flush=True)
for _ in sys.stdin:
    try:
        store = Store.open(Path("race.db"))
    except StoreLocked as locked:
        print(locked.message, flush=True)
        sys.stdin.readline()
    else:
        print("won", flush=True)
        sys.stdin.readline()
        store.close()
    print("done", flush=True)
"""


def test_of_two_that_start_at_the_same_moment_one_wins_ten_times_over(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(2)
    ]

    def each_says(line: str = "") -> list[str]:
        for racer in racers:
            assert racer.stdin
            racer.stdin.write(line)
        return [racer.stdout.readline().strip() for racer in racers if racer.stdout]

    assert each_says() == ["ready", "ready"]
    for _ in range(10):
        said = each_says("go\n")
        assert said.count("won") == 1, said
        winner = said.index("won")
        assert (
            f"the store race.db is in use by process {racers[winner].pid} on " in said[1 - winner]
        )
        assert each_says("end\n") == ["done", "done"]
    for racer in racers:
        racer.communicate()


def test_readers_do_not_hold_up_a_run(project: Project) -> None:
    """One holds a long read transaction, others come and go."""
    run = project.start("run", "spec.yaml", "-q")
    project.wait_for_requests(4)
    store = project.folder / ".gptflow/reviews.db"
    with closing(sqlite3.connect(store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM results").fetchone()
        with held_up(run):
            assert "running" in project.gptflow("runs")
            assert f"in use by process {run.pid} on " in project.gptflow("doctor")
            exported = project.gptflow("export", "reviews").splitlines()
        assert all("label" in json.loads(line) for line in exported if line.startswith("{"))
        assert ended_well(run)
        assert reader.execute("SELECT count(*) FROM results").fetchone() == before
    assert len(project.output()) == ROWS
    assert "nothing to do" in project.gptflow("run", "spec.yaml")


ROUND = """
import sys
from gptflow import GPTWrapper
wrapper = GPTWrapper(config_path="config.json")
prompts = [f"Label review {number}." for number in range(40)]
wrapper.single_round_multi_thread(
    prompts=prompts, fout="answers.jsonl", engine="gpt-4o-mini", threads_num=4
)
"""


def test_a_second_round_of_the_same_files_is_told_who_writes_them(project: Project) -> None:
    command = [sys.executable, "-c", ROUND]
    first = subprocess.Popen(command, cwd=project.folder, stderr=subprocess.PIPE, text=True)
    project.wait_for_requests(4)
    with held_up(first):
        second = subprocess.run(
            command, cwd=project.folder, capture_output=True, text=True, check=False
        )
    assert f"answers.jsonl is being written by process {first.pid}\n" in second.stderr
    first.send_signal(signal.SIGKILL)
    first.communicate()
    subprocess.run(command, cwd=project.folder, check=True, capture_output=True)
    asked = Counter(entry.request for entry in project.requests)
    assert len(asked) == ROWS
    assert sum(asked.values()) <= ROWS + 4
