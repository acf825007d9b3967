"""Stores with flipped bits, torn pages and cut ends: no verb breaks, and the doctor mends them."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.cli.main import main
from tests.faults.crashes import LAUNCHER
from tests.faults.disks import unreadable
from tests.project import REVIEWS, Project, serving

ROWS = 120
CONCURRENCY = 8
SPEC = REVIEWS.replace("number }}.", "number }}. {{ text }}")
SPEC += f"parallelism: {{concurrency: {CONCURRENCY}}}\n"
STORE = Path(".gptflow/reviews.db")
LOG = Path(".gptflow/reviews.db-wal")
NOTHING_THERE = ("is an empty file", "is still empty", "the store has no run", "no store .gptf")
"""What is said of a store whose first transactions are lost already."""
Verb = Callable[..., str]
Harm = Callable[[bytearray, random.Random], None]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, {"reply": "echo", "latency": "3ms"}) as project:
        project.write("spec.yaml", SPEC)
        sizes = [30, 300, 3000]
        project.write_rows(
            [{"number": number, "text": "x" * sizes[number % 3]} for number in range(ROWS)]
        )
        yield project


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a command in this process. It says what is wrong, whatever the store is like."""

    def run(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        assert ended.value.code in codes, (arguments, said)
        assert "Traceback" not in said.err
        words = said.out + said.err
        if ended.value.code == 2:
            assert any(hint in words for hint in ("gptflow doctor", *NOTHING_THERE)), words
        return words

    return run


def finished(project: Project, verb: Verb) -> None:
    """Leaves the store of a finished run: one file, without a log."""
    verb("run", "spec.yaml", "-q")
    project.requests.clear()


def killed(project: Project) -> int:
    """Leaves the store of a run that was killed near its end: most is in its log. What it paid."""
    process = project.start("run", "spec.yaml", "-q")
    while len(project.requests) < ROWS - 2 * CONCURRENCY and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    paid = len({entry.request for entry in project.requests})
    project.requests.clear()
    return paid


def flip_one(data: bytearray, luck: random.Random) -> None:
    data[luck.randrange(len(data))] ^= 1 << luck.randrange(8)


def flip_many(data: bytearray, luck: random.Random) -> None:
    for _ in range(luck.choice([10, 100])):
        flip_one(data, luck)


def overwrite_a_page(data: bytearray, luck: random.Random) -> None:
    start = luck.randrange(len(data) // 4096) * 4096
    data[start : start + 4096] = luck.choice([bytes(4096), luck.randbytes(4096)])


def overwrite_the_header(data: bytearray, luck: random.Random) -> None:
    for _ in range(luck.choice([1, 5, 30])):
        data[luck.randrange(100)] = luck.randrange(256)


def cut(data: bytearray, luck: random.Random) -> None:
    del data[luck.randrange(len(data)) :]


HARMS = [flip_one, flip_many, overwrite_a_page, overwrite_the_header, cut]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("is_killed", [False, True], ids=["finished", "killed"])
def test_no_verb_breaks_on_a_damaged_store_and_repaired_it_goes_on(
    project: Project, verb: Verb, harm: Harm, *, is_killed: bool
) -> None:
    luck = random.Random(f"1{harm.__name__}{is_killed}")
    if is_killed:
        killed(project)
    else:
        finished(project, verb)
    whole = shutil.copytree(STORE.parent, "whole")
    for _ in range(3):
        shutil.rmtree(STORE.parent)
        shutil.copytree(whole, STORE.parent)
        file = LOG if is_killed and luck.random() < 0.7 else STORE
        data = bytearray(file.read_bytes())
        harm(data, luck)
        file.write_bytes(data)
        for command in ("runs", "export reviews", "export reviews -o x.csv", "doctor"):
            verb(*command.split(), codes=(0, 2))
        verb("validate", "spec.yaml")
        verb("preview", "spec.yaml")
        verb("run", "spec.yaml", "-q", codes=(0, 1, 2))
        said = verb("doctor", "spec.yaml", "--repair", codes=(0, 2))
        if "nothing in" in said or "is an empty file" in said:  # a few hundred bytes were left
            shutil.rmtree(STORE.parent)
        assert ": sound" in verb("doctor", codes=(0,)) if STORE.exists() else True
        verb("run", "spec.yaml", "-q", codes=(0, 1))
        assert len(project.output()) >= ROWS - 1  # a reply without its content is a failed row


def test_of_one_damaged_page_what_lies_on_others_is_not_asked_again(
    project: Project, verb: Verb
) -> None:
    finished(project, verb)
    with closing(sqlite3.connect(STORE)) as database:
        pages = database.execute(
            "SELECT pageno FROM dbstat WHERE name = 'calls' AND pagetype = 'leaf'"
        ).fetchall()
    with STORE.open("r+b") as file:
        file.seek((pages[5][0] - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert "reviews.db: damaged" in verb("doctor", "--store", str(STORE), codes=(2,))
    said = verb("doctor", "--store", str(STORE), "--repair")
    lost = int(said.partition("lost ")[2].split()[0])
    assert 0 < lost < 20
    assert "next: the same gptflow run; it asks only what has no reply" in said
    (kept,) = STORE.parent.glob("reviews.damaged-*.db")
    assert b"\xff" * 4096 in kept.read_bytes()
    assert "120 of 120 rows done" in verb("runs", str(STORE))
    assert f"{ROWS - lost} replies" in verb("doctor", "--store", str(STORE))
    assert "nothing to do" in verb("run", "spec.yaml")
    assert project.asked() == []


def test_a_lost_header_costs_no_reply(project: Project, verb: Verb) -> None:
    finished(project, verb)
    with STORE.open("r+b") as file:
        file.write(bytes(100))
    assert "is damaged or no store at all" in verb("run", "spec.yaml", "-q", codes=(2,))
    assert "saved 1 run" in verb("doctor", "spec.yaml", "--repair")
    verb("run", "spec.yaml", "-q")
    assert project.asked() == []
    assert [row["number"] for row in project.output()] == list(range(ROWS))


def test_a_log_that_is_damaged_in_its_middle_is_not_cut_there(project: Project, verb: Verb) -> None:
    """SQLite would take what is before it for all there is, and the rest would be paid again."""
    paid = killed(project)
    log = bytearray(LOG.read_bytes())
    log[len(log) // 2] ^= 1
    LOG.write_bytes(log)
    assert "commits in its log are behind a damaged place" in verb(
        "run", "spec.yaml", "-q", codes=(2,)
    )
    assert LOG.read_bytes() == log
    verb("doctor", "spec.yaml", "--repair")
    verb("run", "spec.yaml", "-q")
    in_a_page = 4
    assert len(project.asked()) <= ROWS - paid + CONCURRENCY + in_a_page
    assert [row["number"] for row in project.output()] == list(range(ROWS))


@pytest.mark.parametrize("is_gone", [False, True], ids=["empty", "gone"])
def test_a_log_without_its_file_is_not_thrown_away(
    project: Project, verb: Verb, *, is_gone: bool
) -> None:
    paid = killed(project)
    STORE.write_bytes(b"")
    if is_gone:
        STORE.unlink()
    said = verb("run", "spec.yaml", "-q", codes=(2,))
    assert "is empty or gone, but its log reviews.db-wal is there" in said
    verb("doctor", "--store", str(STORE), "--repair")
    assert not LOG.exists()
    verb("run", "spec.yaml", "-q")
    assert len(project.asked()) <= ROWS - paid + CONCURRENCY
    assert [row["number"] for row in project.output()] == list(range(ROWS))


def test_what_does_not_fit_together_is_found_and_mended(project: Project, verb: Verb) -> None:
    finished(project, verb)
    with closing(sqlite3.connect(STORE, isolation_level=None)) as database:
        database.execute("DELETE FROM results WHERE row_id & 1023 IN (7, 50, 99)")
        database.execute("UPDATE calls SET body = '{}' WHERE call_id = 3")
        database.execute("UPDATE ledger SET record = record + 1 WHERE row_id & 1023 = 9")
    said = verb("doctor", "spec.yaml", codes=(2,))
    assert "rows that have ended without a result: 3" in said
    assert "replies that cannot be read: 1" in said
    assert "the rows of run 1 are not those that it began with" in said
    said = verb("doctor", "spec.yaml", "--repair")
    assert "lost 120 rows and 1 reply" in said
    verb("run", "spec.yaml", "-q")
    assert len(project.asked()) == 1
    assert [row["number"] for row in project.output()] == list(range(ROWS))


EXCHANGE = "gptflow.store.exchange"
WITHIN_A_REPAIR = {
    "as rows are saved": "during gptflow.store.salvage:salvage",
    "before the new store is whole": "before gptflow.store.mend:mend",
    "before it counts": f"before {EXCHANGE}:exchange",
    "as it counts": f"before {EXCHANGE}:finish",
    "between the names of the damaged store": f"after posix:link in {EXCHANGE}:_keep",
    "before the log loses its name": f"after posix:link in {EXCHANGE}:_keep #2",
    "as the log has lost its name": f"before pathlib:Path.unlink in {EXCHANGE}:finish #2",
    "before the new one gets its name": f"after gptflow.files:sync_folder in {EXCHANGE}:finish #2",
    "as it has its name": f"before gptflow.files:sync_folder in {EXCHANGE}:finish #3",
}


def test_a_repair_that_is_killed_anywhere_costs_no_reply(project: Project, verb: Verb) -> None:
    paid = killed(project)
    log = bytearray(LOG.read_bytes())
    log[len(log) // 2] ^= 1
    LOG.write_bytes(log)
    whole = shutil.copytree(STORE.parent, "whole")
    for name, point in WITHIN_A_REPAIR.items():
        shutil.rmtree(STORE.parent)
        shutil.copytree(whole, STORE.parent)
        command = [sys.executable, str(LAUNCHER), point, "doctor", "spec.yaml", "--repair"]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == -signal.SIGKILL, (name, process.stderr)
        refused = verb("run", "spec.yaml", "-q", codes=(0, 2))
        assert ("gptflow doctor" in refused) == (name != "as it has its name"), (name, refused)
        interrupted = "was interrupted" in refused
        assert ("was interrupted" in verb("export", "reviews", codes=(0, 2))) == interrupted
        assert ("was interrupted" in verb("doctor", codes=(0, 2))) == interrupted
        verb("doctor", "spec.yaml", "--repair")
        assert ": sound" in verb("doctor"), name
        verb("run", "spec.yaml", "-q")
        in_a_page = 4
        assert len(project.asked()) <= ROWS - paid + CONCURRENCY + in_a_page, name
        assert [row["number"] for row in project.output()] == list(range(ROWS))
        (kept,) = STORE.parent.glob("reviews.damaged-*.db-wal")
        assert kept.read_bytes() == log
        assert not list(STORE.parent.glob("*.repair*"))


def test_where_only_a_damaged_store_is_left_nothing_is_paid_again_unasked(
    project: Project, verb: Verb
) -> None:
    finished(project, verb)
    STORE.rename(STORE.with_name("reviews.damaged-20260101-000000.db"))
    said = verb("run", "spec.yaml", "-q", codes=(2,))
    assert "a damaged one is kept beside it: reviews.damaged-20260101-000000.db" in said
    assert project.asked() == []


def test_an_interrupted_repair_leaves_the_damaged_store_as_it_was(
    project: Project, verb: Verb
) -> None:
    finished(project, verb)
    with STORE.open("r+b") as file:
        file.write(bytes(100))
    before = {path.name: path.read_bytes() for path in STORE.parent.iterdir()}
    point = "SIGINT before gptflow.store.mend:mend"
    command = [sys.executable, str(LAUNCHER), point, "doctor", "spec.yaml", "--repair"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 130, process.stderr
    assert {path.name: path.read_bytes() for path in STORE.parent.iterdir()} == before


def test_a_link_to_a_store_is_looked_at_and_repaired_where_it_leads(
    project: Project, verb: Verb
) -> None:
    finished(project, verb)
    link = Path("link.db")
    link.symlink_to(STORE)
    assert ": sound" in verb("doctor", "--store", "link.db")
    with STORE.open("r+b") as file:
        file.write(bytes(100))
    verb("doctor", "--store", "link.db", "--repair")
    assert link.is_symlink()
    assert ": sound" in verb("doctor")
    assert len(list(STORE.parent.glob("reviews.damaged-*.db"))) == 1
    loop = Path("loop.db")
    loop.symlink_to(loop)
    for arguments in (["doctor"], ["doctor", "--repair"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--store", "loop.db"])
        assert ended.value.code == 2


@pytest.mark.parametrize("page", [0, 1, 12])
def test_a_page_that_the_disk_cannot_read_costs_only_what_is_on_it(
    project: Project, verb: Verb, page: int
) -> None:
    finished(project, verb)
    broken = unreadable(project.folder, STORE.name, page * 4096)
    assert "reviews.db: damaged" in project.gptflow("doctor", "spec.yaml", code=2, env=broken)
    said = project.gptflow("doctor", "spec.yaml", "--repair", env=broken)
    assert "repaired" in said
    assert len(list(STORE.parent.glob("reviews.damaged-*.db"))) == 1
    verb("run", "spec.yaml", "-q")
    assert len(project.asked()) < 20
    assert [row["number"] for row in project.output()] == list(range(ROWS))


def test_a_log_that_the_disk_cannot_read_costs_only_what_is_on_it(
    project: Project, verb: Verb
) -> None:
    paid = killed(project)
    broken = unreadable(project.folder, LOG.name, LOG.stat().st_size // 2)
    said = project.gptflow("doctor", "spec.yaml", code=2, env=broken)
    assert "its log cannot be read: Input/output error" in said
    assert "repaired" in project.gptflow("doctor", "spec.yaml", "--repair", env=broken)
    verb("run", "spec.yaml", "-q")
    assert len(project.asked()) < ROWS - paid + CONCURRENCY + ROWS // 2
    assert [row["number"] for row in project.output()] == list(range(ROWS))
