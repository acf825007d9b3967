from __future__ import annotations

import csv
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gptflow.data.sinks.whole import WholeFile
from tests.cli.conftest import Gptflow


@pytest.fixture
def ran(gptflow: Gptflow) -> Gptflow:
    """With a store of one rehearsal, of which two rows were asked for."""
    assert gptflow("run", "spec.yaml", "--mock", "--set", "source.limit=2").code == 0
    return gptflow


def change(folder: Path, *statements: str) -> None:
    """Change the store of `ran` to what another run would have left."""
    with closing(sqlite3.connect(folder / ".gptflow/reviews.db")) as store, store:
        for statement in statements:
            store.execute(statement)


def test_the_done_rows_go_to_standard_output_and_their_number_does_not(ran: Gptflow) -> None:
    said = ran("export", "reviews")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert (said.code, said.err) == (0, "run 1 (mock): simulated\n2 rows\n")
    assert [row["id"] for row in rows] == [1, 2]
    assert list(rows[0]) == ["id", "text", "label", "apology"]


@pytest.mark.parametrize("output", ["reviews.jsonl", ".gptflow/reviews.db"])
def test_what_the_rows_came_from_is_not_written_over(
    ran: Gptflow, folder: Path, output: str
) -> None:
    before = (folder / output).read_bytes()
    said = ran("export", "reviews", "-o", output)
    assert said.code == 2
    assert (folder / output).read_bytes() == before


@pytest.mark.parametrize("store", ["reviews", "reviews.db", ".gptflow/reviews.db"])
def test_a_store_is_named_by_its_file_or_its_pipeline(ran: Gptflow, store: str) -> None:
    assert ran("export", store).err.endswith("2 rows\n")


def test_columns_are_chosen_and_ordered(ran: Gptflow) -> None:
    said = ran("export", "reviews", "--columns", "label, id", "--format", "csv")
    header, *rows = csv.reader(said.out.splitlines())
    assert header == ["label", "id"]
    assert [row[1] for row in rows] == ["1", "2"]


def test_a_column_that_no_row_has_is_refused(ran: Gptflow, folder: Path) -> None:
    said = ran("export", "reviews", "--columns", "lable", "-o", "rows.csv")
    assert said.code == 2
    assert said.err == "run 1 has no column 'lable'\nHint: it has id, text, label, apology\n"
    assert list(folder.glob("rows.csv*")) == []


@pytest.mark.parametrize(
    ("name", "first"), [("rows.csv", "id,text"), ("rows.json", "["), ("rows.jsonl", '{"id"')]
)
def test_a_files_name_tells_its_format(ran: Gptflow, folder: Path, name: str, first: str) -> None:
    said = ran("export", "reviews", "-o", name)
    assert (said.code, said.out) == (0, "")
    assert (folder / name).read_text().startswith(first)


@pytest.mark.parametrize("name", ["rows.xml", "rows", "spec.yaml/rows.csv"])
def test_a_file_that_cannot_be_written_is_refused(ran: Gptflow, name: str) -> None:
    said = ran("export", "reviews", "-o", name)
    assert (said.code, said.out) == (2, "")
    assert Path(name).name in said.err


def test_an_earlier_run_can_be_exported(ran: Gptflow) -> None:
    ran("run", "spec.yaml", "--mock")
    assert ran("export", "reviews").err == "run 2 (mock): simulated\n3 rows\n"
    assert ran("export", "reviews", "--run", "1").err == "run 1 (mock): simulated\n2 rows\n"
    assert ran("export", "reviews", "--run", "7").err == (
        "the store has no run 7\nHint: its runs: 1, 2\n"
    )


def test_a_run_that_goes_on_is_exported_as_far_as_it_is(ran: Gptflow, folder: Path) -> None:
    change(
        folder,
        "UPDATE ledger SET status = 0 WHERE row_id & 1 = 1",
        "DELETE FROM results WHERE row_id & 1 = 1",
        "UPDATE runs SET status = 'running'",
    )
    assert ran("export", "reviews").err == "run 1 (mock): simulated\n1 row\n"


def test_the_latest_real_run_comes_before_a_rehearsal_that_is_younger(
    ran: Gptflow, folder: Path
) -> None:
    change(folder, "UPDATE runs SET server = ''")
    ran("run", "spec.yaml", "--mock")
    assert ran("export", "reviews").err == "2 rows\n"
    assert ran("export", "reviews", "--run", "2").err == "run 2 (mock): simulated\n3 rows\n"


def test_rows_of_a_local_model_are_called_that(ran: Gptflow, folder: Path) -> None:
    change(folder, "UPDATE runs SET server = 'local:tiny'")
    said = ran("export", "reviews")
    assert said.err == "run 1 (local:tiny): answered on this machine\n2 rows\n"
    assert len(said.out.splitlines()) == 2


def test_the_file_that_a_run_is_writing_is_refused(ran: Gptflow, folder: Path) -> None:
    with WholeFile(folder / "out.jsonl"):
        said = ran("export", "reviews", "-o", "out.jsonl")
    assert said.code == 2
    assert said.err.startswith(f"out.jsonl: cannot be written: process {os.getpid()} is writing")


def test_a_store_that_is_not_there(gptflow: Gptflow) -> None:
    said = gptflow("export", "reviews")
    assert said.code == 2
    assert said.err == (
        "no store reviews, and no .gptflow/reviews.db\nHint: gptflow runs lists the stores\n"
    )


def test_a_file_that_is_no_store(gptflow: Gptflow) -> None:
    said = gptflow("export", "spec.yaml")
    assert said.code == 2
    assert "spec.yaml is damaged or no store at all" in said.err


def test_an_export_is_as_safe_as_the_spec_of_the_run_says(gptflow: Gptflow, folder: Path) -> None:
    (folder / "reviews.jsonl").write_text('{"id": 1, "text": "=1+1"}')
    said = ("run", "spec.yaml", "--mock", "--set", "output.csv_safe=true")
    assert gptflow(*said).code == 0

    def exported(*options: str) -> str:
        return gptflow("export", "reviews", "--columns", "text", "--format", "csv", *options).out

    assert exported() == exported("--csv-safe") == "text\n'=1+1\n"
    assert exported("--no-csv-safe") == "text\n=1+1\n"


@pytest.mark.parametrize(("said", "wrote"), [('"${CS}"', "'=1+1"), ("false", "=1+1")])
def test_an_export_is_safe_where_the_spec_left_it_to_a_variable(
    said: str, wrote: str, gptflow: Gptflow, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CS", "true")
    (folder / "reviews.jsonl").write_text('{"id": 1, "text": "=1+1"}')
    spec = folder / "spec.yaml"
    spec.write_text(spec.read_text().replace("output: {", f"output: {{csv_safe: {said}, "))
    assert gptflow("run", "spec.yaml", "--mock").code == 0
    exported = gptflow("export", "reviews", "--columns", "text", "--format", "csv")
    assert exported.out == f"text\n{wrote}\n"


def test_a_header_without_rows_leaves_the_fields_alone(gptflow: Gptflow, folder: Path) -> None:
    (folder / "none.csv").write_text("id,text\n")
    changes = ("--set", "source.path=none.csv", "--set", "output.path=none.out.csv")
    assert gptflow("run", "spec.yaml", "--mock", *changes).code == 0
    assert (folder / "none.out.simulated.csv").read_text() == "label,apology\n"
    assert gptflow("export", "reviews", "--format", "csv").out == "label,apology\n"
