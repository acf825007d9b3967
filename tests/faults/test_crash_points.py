"""SIGKILL at every step of a run, from its first table to its last rename."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crashes import CALLS, COMMAND, CONCURRENCY, DONE, Scene, staged


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with staged(tmp_path) as made:
        yield made


MIGRATE = "gptflow.store.migration:migrate"
BEFORE_THE_FIRST_CALL = {
    "within the first migration": "during sqlite3:Connection.executescript",
    "between two migrations": f"after sqlite3:Connection.executescript in {MIGRATE}",
    "as the run is written down": "after gptflow.store.run:insert_run",
    "between ledger rows and their commit": "after gptflow.store.ledger:insert_rows",
    "between two parts of the ledger": "before gptflow.store.ledger:number_duplicates",
    "before the ledger counts as whole": "after gptflow.store.run:set_running",
    "before the first send": "before gptflow.engine.client:Client.send",
}


@pytest.mark.parametrize("point", BEFORE_THE_FIRST_CALL.values(), ids=BEFORE_THE_FIRST_CALL)
def test_a_run_killed_before_its_first_call_begins_as_if_nothing_were(
    scene: Scene, point: str
) -> None:
    scene.kill_at(point)
    assert not scene.requests
    scene.finish()
    assert len(scene.requests) == CALLS


IN_THE_CHECK_OF_IDS = {
    "before the ids are looked at": "before gptflow.runner.begin:_refuse_duplicates",
    "as the rows are looked for": "before gptflow.data.sources.source:locate",
    "before the refused run is dropped": "before gptflow.store.run:delete_run",
}


@pytest.mark.parametrize("point", IN_THE_CHECK_OF_IDS.values(), ids=IN_THE_CHECK_OF_IDS)
def test_a_run_killed_as_its_ids_are_checked_is_not_gone_on_with_unchecked(
    scene: Scene, point: str
) -> None:
    with (scene.folder / "rows.jsonl").open("a") as rows:
        rows.write('{"number": 3}\n')
    scene.kill_at(point)
    for _ in range(2):
        process = scene.start("-m", "gptflow", *COMMAND)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 2, told
        assert "rows.jsonl:41 has the id of rows.jsonl:4" in told
    assert not scene.requests


AMONG_CALLS = {
    "as a request is sent": "after gptflow.engine.client:Client.send #20",
    "between a reply and its commit": "before gptflow.store.store:Store.save_reply #20",
    "between two statements of a commit": "after sqlite3:Connection.executemany #20",
    "within COMMIT": "during sqlite3:Connection.execute ~COMMIT #20",
    "between COMMIT and who waits for it": "before gptflow.store.writer:_settle #15",
    "between a row's last reply and its result": "before gptflow.store.store:Store.save_result #9",
}


@pytest.mark.parametrize("point", AMONG_CALLS.values(), ids=AMONG_CALLS)
def test_a_run_killed_among_its_calls_asks_again_only_those_in_flight(
    scene: Scene, point: str
) -> None:
    scene.kill_at(point)
    assert 0 < len(scene.requests) < CALLS
    scene.finish()
    assert scene.asked_again() <= CONCURRENCY


@pytest.mark.parametrize("number", [17, CALLS])
def test_a_run_killed_as_a_request_arrives_asks_again_only_those_in_flight(
    scene: Scene, number: int
) -> None:
    process = scene.run()
    scene.call_at(number, process.kill)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    scene.look()
    scene.finish()
    assert scene.asked_again() <= CONCURRENCY


AFTER_THE_LAST_CALL = {
    "as a row is written out": "before gptflow.data.sinks.jsonl:JsonlSink.write #20",
    "before the output moves to its place": "before pathlib:Path.replace",
    "after the output has moved": "after pathlib:Path.replace",
    "before the failed rows move": "before pathlib:Path.replace #2",
    "after the failed rows have moved": "after pathlib:Path.replace #2",
    "before the end is written down": "before gptflow.store.run:change_run",
    "after the end was written down": "after gptflow.store.run:change_run",
    "as the store is closed": "before gptflow.store.store:_finish",
}


@pytest.mark.parametrize("point", AFTER_THE_LAST_CALL.values(), ids=AFTER_THE_LAST_CALL)
def test_a_run_killed_after_its_last_call_asks_nothing_again(scene: Scene, point: str) -> None:
    scene.kill_at(point)
    scene.finish()
    assert len(scene.requests) == CALLS


ON_RESUME = {
    "as leftovers are tidied": "after gptflow.store.run:tidy_runs",
    "before the run goes on": "before gptflow.runner.begin:_go_on",
    "as it is written down that it goes on": "before gptflow.store.run:change_run",
}


@pytest.mark.parametrize("point", ON_RESUME.values(), ids=ON_RESUME)
def test_a_run_killed_as_it_is_resumed_is_resumed_the_next_time(scene: Scene, point: str) -> None:
    scene.kill_at("before gptflow.store.store:Store.save_result #9")
    asked = len(scene.requests)
    scene.kill_at(point)
    assert len(scene.requests) == asked
    scene.finish()
    assert scene.asked_again() <= CONCURRENCY


def test_a_crash_leaves_the_output_of_the_run_before_as_it_is(scene: Scene) -> None:
    scene.finish()
    edited = (scene.folder / "spec.yaml").read_text().replace("apology: text", "sorry: text")
    (scene.folder / "spec.yaml").write_text(edited)
    for point in (
        "before gptflow.runner.publish:Publication.commit",
        "before pathlib:Path.replace",
    ):
        scene.kill_at(point)


def test_a_run_over_standard_input_goes_on_with_the_same_input(scene: Scene) -> None:
    piped = ("run", "spec.yaml", "--quiet", "--set", "source.path=-")
    with (scene.folder / "rows.jsonl").open() as rows:
        scene.kill_at("before gptflow.store.store:Store.save_result #9", *piped, stdin=rows)
    with (scene.folder / "rows.jsonl").open() as rows:
        process = scene.start("-m", "gptflow", *piped, stdin=rows)
        process.communicate(timeout=60)
    assert process.returncode == 1
    scene.look()
    assert scene.rows() == DONE
    assert scene.asked_again() <= CONCURRENCY


def test_an_export_that_is_killed_leaves_its_target_as_it_was(scene: Scene) -> None:
    scene.finish()
    target = scene.folder / "copy.csv"
    target.write_text("old")
    scene.kill_at("before pathlib:Path.replace", "export", "crash", "-o", "copy.csv")
    assert target.read_text() == "old"
    scene.kill_at("after pathlib:Path.replace", "export", "crash", "-o", "copy.csv")
    assert len(target.read_text().splitlines()) == 1 + len(DONE)


def test_a_point_that_is_never_reached_is_noticed(scene: Scene) -> None:
    with pytest.raises(AssertionError, match="was not reached"):
        scene.kill_at("before pathlib:Path.replace #9")
    with pytest.raises(AssertionError, match="has no attribute 'sav_reply'"):
        scene.kill_at("before gptflow.store.store:Store.sav_reply")
