from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

import gptflow
from gptflow.errors import (
    ConfigError,
    DataError,
    SpecError,
    StoreLocked,
    UsageError,
)
from gptflow.runner.summary import Ending
from gptflow.store.store import Store
from tests.runner.conftest import SPEC, Folder

MOCK = gptflow.ServerChoice(mock=True)
NO_KEYS = gptflow.ServerChoice(config=Path("none.json"))


@pytest.fixture(autouse=True)
def spec_file(folder: Folder) -> Path:
    path = folder.path / "spec.yaml"
    path.write_text(SPEC)
    return path


def test_a_spec_is_loaded_and_changed_by_path(spec_file: Path) -> None:
    spec = gptflow.load_spec(spec_file, set={"source.limit": 2, "steps.label.model.seed": 7})
    assert isinstance(spec, gptflow.Spec)
    assert spec.source.limit == 2
    assert spec.steps[0].model is not None
    assert spec.steps[0].model.params == {"seed": 7}


def test_loading_a_spec_checks_all_of_it() -> None:
    values = {"steps.label.prompt": "{{ txet }}", "steps.apology.when": "label =="}
    with pytest.raises(SpecError) as caught:
        gptflow.load_spec("spec.yaml", set=values)
    assert len(caught.value.problems) == 2


def test_rows_with_half_a_surrogate_pair_are_given_as_python_has_them(folder: Folder) -> None:
    (folder.path / "rows.jsonl").write_text('{"text": "\\ud800"}\n')
    prompts = {"steps.label.prompt": "Label it.", "steps.apology.prompt": "Apologise."}
    (row,) = gptflow.run(gptflow.load_spec("spec.yaml", set=prompts), server=MOCK).iter_rows()
    assert row["text"] == "\ud800"


def test_loading_a_spec_reads_the_first_rows(folder: Folder) -> None:
    (folder.path / "rows.jsonl").write_text("broken\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        gptflow.load_spec("spec.yaml")


def test_a_run_gives_its_counts_and_rows(folder: Folder) -> None:
    result = gptflow.run("spec.yaml", server=MOCK)
    assert isinstance(result, gptflow.RunSummary)
    assert (result.status, result.rows, result.done, result.failed) == (Ending.FINISHED, 3, 3, 0)
    assert (result.pending, result.exit_code, result.cost_usd) == (0, 0, 0.0)
    assert result.calls >= 1
    assert result.prompt_tokens > 0
    rows = list(result.iter_rows())
    assert [row["text"] for row in rows] == ["one", "two", "three"]
    assert rows == [json.loads(line) for line in result.output.read_text().splitlines()]
    assert result.output == folder.path / "out.simulated.jsonl"


def test_a_spec_that_was_loaded_can_be_run() -> None:
    spec = gptflow.load_spec("spec.yaml", set={"source.limit": 1})
    assert gptflow.run(spec, server=MOCK).rows == 1


def test_the_same_run_again_has_nothing_to_do() -> None:
    gptflow.run("spec.yaml", server=MOCK)
    again = gptflow.run("spec.yaml", server=MOCK)
    assert (again.nothing_to_do, again.calls, again.done) == (True, 0, 3)
    assert not gptflow.run("spec.yaml", server=MOCK, fresh=True).nothing_to_do


def test_a_run_works_inside_a_loop_that_is_running() -> None:
    """As in a notebook."""

    async def cell() -> gptflow.RunSummary:
        return gptflow.run("spec.yaml", server=MOCK)

    assert asyncio.run(cell()).done == 3


def test_a_run_works_in_a_thread() -> None:
    results: list[gptflow.RunSummary] = []
    thread = threading.Thread(target=lambda: results.append(gptflow.run("spec.yaml", server=MOCK)))
    thread.start()
    thread.join()
    assert results[0].done == 3


def test_the_store_can_lie_elsewhere(folder: Folder) -> None:
    result = gptflow.run("spec.yaml", server=MOCK, store="elsewhere/x.db")
    assert result.store == Path("elsewhere/x.db")
    assert (folder.path / "elsewhere/x.db").is_file()
    assert not (folder.path / ".gptflow").exists()


def test_a_run_is_silent_unless_progress_is_wished(capsys: pytest.CaptureFixture[str]) -> None:
    gptflow.run("spec.yaml", server=MOCK)
    assert capsys.readouterr() == ("", "")
    gptflow.run("spec.yaml", server=MOCK, progress=True, fresh=True)
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0][:15]) == ("", "reviews: 3 rows")


def test_a_failed_row_is_no_exception(folder: Folder) -> None:
    failures = "failures: [{name: context_length_exceeded, match: two}]"
    (folder.path / "scenario.yaml").write_text(failures)
    server = gptflow.ServerChoice(mock=True, scenario=Path("scenario.yaml"))
    result = gptflow.run("spec.yaml", server=server)
    assert (result.done, result.failed, result.exit_code) == (2, 1, 1)
    assert [group.rows for group in result.failures] == [1]
    assert len(list(result.iter_rows())) == 2


@pytest.mark.parametrize(
    ("spec", "error"),
    [("none.yaml", UsageError), (".", UsageError)],
    ids=["no file", "a folder"],
)
def test_a_spec_that_cannot_be_read(spec: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        gptflow.run(spec, server=MOCK)


def test_without_keys_nothing_is_begun(folder: Folder) -> None:
    with pytest.raises(ConfigError):
        gptflow.run("spec.yaml", server=NO_KEYS)
    assert sorted(path.name for path in folder.path.iterdir()) == ["rows.jsonl", "spec.yaml"]


def test_a_store_that_is_in_use_is_refused(folder: Folder) -> None:
    with (
        Store.open(folder.path / ".gptflow/reviews.db"),
        pytest.raises(StoreLocked, match="in use by process"),
    ):
        gptflow.run("spec.yaml", server=MOCK)


def test_an_output_that_cannot_be_written_is_told_before_anything_is_asked(
    folder: Folder,
) -> None:
    (folder.path / "scenario.yaml").write_text("log: requests.jsonl\n")
    server = gptflow.ServerChoice(mock=True, scenario=Path("scenario.yaml"))
    (folder.path / "out.simulated.jsonl").mkdir()
    with pytest.raises(UsageError, match="cannot be written: it is a folder"):
        gptflow.run("spec.yaml", server=server)
    assert not (folder.path / "requests.jsonl").exists()
    (folder.path / "out.simulated.jsonl").rmdir()
    assert gptflow.run("spec.yaml", server=server).done == 3


def test_retry_takes_what_is_there_to_retry() -> None:
    gptflow.run("spec.yaml", server=MOCK)
    assert gptflow.run("spec.yaml", server=MOCK, retry="failed").calls == 0


def test_not_to_wait_is_for_batch_mode() -> None:
    with pytest.raises(UsageError, match="wait=False is for batch mode"):
        gptflow.run("spec.yaml", server=MOCK, wait=False)
