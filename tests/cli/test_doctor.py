from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.conftest import Gptflow

STORE = ".gptflow/reviews.db"


def test_a_sound_store_is_told_in_a_few_lines_and_left_alone(
    gptflow: Gptflow, folder: Path
) -> None:
    gptflow("run", "spec.yaml", "--mock")
    before = (folder / STORE).read_bytes()
    said = gptflow("doctor")
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(
        rf"{STORE}: sound\n"
        r"  1 run, 3 rows, 5 replies\n"
        r"  version \d+, [\d.]+ MB, [\d,.]+ GB free on \w+\n",
        said.out,
    )
    assert gptflow("doctor", "spec.yaml", "--repair").out == f"{STORE}: sound, and left alone\n"
    assert (folder / STORE).read_bytes() == before


def test_what_is_wrong_is_listed_with_the_way_out(gptflow: Gptflow, folder: Path) -> None:
    gptflow("run", "spec.yaml", "--mock")
    with closing(sqlite3.connect(folder / STORE, isolation_level=None)) as database:
        database.execute("DELETE FROM results WHERE row_id & 1 = 1")
    said = gptflow("doctor", "spec.yaml")
    assert said.code == 2
    first, problem, *_, hint = said.out.splitlines()
    assert first == f"{STORE}: damaged"
    assert problem == "  rows that have ended without a result: 1"
    assert hint == f"Hint: gptflow doctor --store {STORE} --repair  saves what can be read"
    said = gptflow("doctor", "--store", STORE, "--repair")
    assert said.code == 0
    assert "  saved 1 run, 2 ended rows, 5 replies\n  lost 1 row\n" in said.out
    kept = re.search(r"the damaged store is kept as (\S+)\n", said.out)
    assert kept
    assert (folder / kept[1]).is_file()
    assert gptflow("doctor").out.count(": sound") == 1  # the damaged one is not looked at again
    assert "done 3, failed 0" in gptflow("run", "spec.yaml", "--mock").out


def test_what_is_no_store_is_left_as_it_is(gptflow: Gptflow, folder: Path) -> None:
    (folder / ".gptflow").mkdir()
    notes = folder / STORE
    notes.write_text("my notes, which are no store at all\n" * 100)
    said = gptflow("doctor", "spec.yaml", "--repair")
    assert said.code == 2
    assert said.err.startswith(f"nothing in {STORE} looks like a store; it was left as it is\n")
    assert notes.read_text().startswith("my notes")
    with closing(sqlite3.connect(folder / "other.db")) as other:
        other.execute("CREATE TABLE holiday (photo)")
    said = gptflow("doctor", "--store", "other.db", "--repair")
    assert said.err.startswith("other.db is an SQLite database, but not a store of gptflow\n")


def test_a_store_that_is_none_hides_no_other(gptflow: Gptflow, folder: Path) -> None:
    gptflow("run", "spec.yaml", "--mock")
    with closing(sqlite3.connect(folder / ".gptflow/a.db")) as other:
        other.execute("CREATE TABLE holiday (photo)")
    said = gptflow("doctor")
    assert said.code == 2
    assert "not a store of gptflow" in said.err
    assert f"{STORE}: sound" in said.out


def test_without_a_store(gptflow: Gptflow) -> None:
    assert gptflow("doctor").err.startswith("no store in .gptflow/\nHint: gptflow run SPEC makes")
    assert gptflow("doctor", "spec.yaml").err.startswith(f"there is no store {STORE}\n")
    assert gptflow("doctor", "spec.yaml", "--store", "x.db").code == 2
