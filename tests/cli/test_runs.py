from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.conftest import Gptflow


def test_every_run_is_a_line(gptflow: Gptflow) -> None:
    gptflow("run", "spec.yaml", "--mock", "--set", "source.limit=2")
    gptflow("run", "spec.yaml", "--mock")
    said = gptflow("runs")
    assert said.code == 0
    first, second = said.out.splitlines()
    assert re.fullmatch(
        r"reviews  run 1  \d{4}-\d\d-\d\d \d\d:\d\d[+-]\d\d:\d\d  finished \(mock\): "
        r"2 of 2 rows done, 0 failed",
        first,
    )
    assert "run 2" in second
    assert "3 of 3 rows done" in second


def test_json_has_the_same_for_programs(gptflow: Gptflow, folder: Path) -> None:
    gptflow("run", "spec.yaml", "--mock")
    (run,) = json.loads(gptflow("runs", "--json").out)
    assert run.pop("began").startswith("20")
    assert run == {
        "store": ".gptflow/reviews.db",
        "name": "reviews",
        "run": 1,
        "status": "finished",
        "stop_reason": "",
        "server": "mock",
        "rows": 3,
        "done": 3,
        "failed": 0,
        "output": str(folder / "out/labels.simulated.jsonl"),
    }


def test_stores_can_be_named(gptflow: Gptflow) -> None:
    gptflow("run", "spec.yaml", "--mock", "--store", "a.db")
    gptflow("run", "spec.yaml", "--mock", "--store", "b.db")
    assert gptflow("runs", "b.db", "a.db").out.count("run 1") == 2


def test_without_any_store(gptflow: Gptflow) -> None:
    said = gptflow("runs")
    assert (said.code, said.out) == (2, "")
    assert said.err == ("no store in .gptflow/\nHint: gptflow run SPEC makes one, in this folder\n")


def test_a_broken_store_hides_no_other(gptflow: Gptflow, folder: Path) -> None:
    gptflow("run", "spec.yaml", "--mock")
    (folder / ".gptflow/broken.db").write_text("no database at all\n" * 100)
    said = gptflow("runs")
    assert said.code == 2
    assert said.out.startswith("reviews  run 1")
    assert said.err.startswith("the store .gptflow/broken.db is damaged")
    said = gptflow("runs", "--json")
    assert (said.code, len(json.loads(said.out))) == (2, 1)


def test_a_run_that_is_being_prepared_has_done_nothing(gptflow: Gptflow, folder: Path) -> None:
    gptflow("run", "spec.yaml", "--mock")
    with sqlite3.connect(folder / ".gptflow/reviews.db") as writer:  # as begin_run leaves it
        writer.execute("UPDATE ledger SET status = 0")
        writer.execute("UPDATE runs SET status = 'preparing', rows = 0")
    writer.close()
    assert "preparing (mock): 0 of 0 rows done, 0 failed" in gptflow("runs").out


def test_a_run_that_was_killed_is_not_running(gptflow: Gptflow, folder: Path) -> None:
    gptflow("run", "spec.yaml", "--mock")
    with closing(sqlite3.connect(folder / ".gptflow/reviews.db", isolation_level=None)) as writer:
        writer.execute("UPDATE runs SET status = 'running'")  # as a killed run leaves it
    assert " interrupted (mock): " in gptflow("runs").out


def test_a_store_that_is_not_there_and_a_folder(gptflow: Gptflow, folder: Path) -> None:
    assert gptflow("runs", "none.db").err.startswith("there is no store none.db")
    (folder / "f").mkdir()
    assert gptflow("runs", "f").err == "the store f is a folder\nHint: name a file in it\n"
