from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from tests.journeys.conftest import SPEC, Project


def test_a_run_asks_every_row_and_writes_the_output(project: Project) -> None:
    said = project.gptflow("run", "spec.yaml")
    assert "reviews: 3 rows, 2 steps, gpt-4o-mini, 1 key" in said
    assert "done 3, failed 0" in said
    assert project.output() == [
        {"id": 1, "text": "good", "label": "positive", "apology": None},
        {"id": 2, "text": "bad", "label": "negative", "apology": "We are sorry."},
        {"id": 3, "text": "fine", "label": "positive", "apology": None},
    ]
    assert len(project.asked()) == 4


def test_the_second_turn_continues_the_conversation(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    second_turn = next(entry for entry in project.requests if "Apologise" in str(entry.user))
    assert second_turn.prompt_tokens > next(e for e in project.requests).prompt_tokens


def test_json_prints_one_object_on_stdout(project: Project) -> None:
    said = project.run_json("spec.yaml")
    assert set(said) == {
        "run", "status", "rows", "done", "failed", "calls", "reused_calls", "prompt_tokens",
        "completion_tokens", "cost_usd", "wall_s", "output",
    }  # fmt: skip
    assert (said["status"], said["rows"], said["done"], said["calls"]) == ("finished", 3, 3, 4)
    assert said["cost_usd"] > 0
    assert said["output"].endswith("out/labels.jsonl")


def test_a_finished_run_has_nothing_to_do(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    project.asked()
    before = (project.folder / "out/labels.jsonl").stat()
    assert "nothing to do" in project.gptflow("run", "spec.yaml")
    after = (project.folder / "out/labels.jsonl").stat()
    assert project.asked() == []
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_lost_output_is_written_again_without_asking(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    project.asked()
    (project.folder / "out/labels.jsonl").unlink()
    project.gptflow("run", "spec.yaml")
    assert len(project.output()) == 3
    assert project.asked() == []


def test_another_output_is_written_without_asking(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    project.asked()
    project.gptflow("run", "spec.yaml", "--set", "output.path=out/labels.csv")
    text = (project.folder / "out/labels.csv").read_text()
    assert text.splitlines()[:2] == ["id,text,label,apology", "1,good,positive,"]
    assert project.asked() == []


def test_a_changed_extractor_asks_nothing(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    project.asked()
    project.write("spec.yaml", SPEC.replace("apology: text", "apology: {regex: '\\w+$'}"))
    with pytest.raises(AssertionError, match="done 2, failed 1"):
        project.gptflow("run", "spec.yaml")  # "We are sorry." ends in a dot
    project.write("spec.yaml", SPEC.replace("apology: text", "apology: {regex: '(\\w+)\\.'}"))
    project.gptflow("run", "spec.yaml")
    assert project.output()[1]["apology"] == "sorry"
    assert project.asked() == []


def test_a_changed_second_prompt_asks_second_steps_only(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    project.asked()
    project.write("spec.yaml", SPEC.replace("Apologise for", "Apologise humbly for"))
    project.gptflow("run", "spec.yaml")
    assert project.asked() == ["Apologise humbly for bad."]


def test_appended_and_reordered_rows_ask_the_new_ones_only(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    project.asked()
    rows = [{"id": 1, "text": "good"}, {"id": 2, "text": "bad"}, {"id": 3, "text": "fine"}]
    project.write_rows([*rows, {"id": 4, "text": "nice"}][::-1])
    project.gptflow("run", "spec.yaml")
    assert [row["id"] for row in project.output()] == [4, 3, 2, 1]
    assert project.asked() == ["Label nice as one of positive, negative."]


def test_an_edited_row_is_asked_again_also_under_the_same_id(project: Project) -> None:
    project.gptflow("run", "spec.yaml", "--set", "source.id=id")
    project.asked()
    project.write_rows(
        [{"id": 1, "text": "good"}, {"id": 2, "text": "ok"}, {"id": 3, "text": "fine"}]
    )
    project.gptflow("run", "spec.yaml", "--set", "source.id=id")
    assert project.asked() == ["Label ok as one of positive, negative."]
    assert project.output()[1] == {"id": 2, "text": "ok", "label": "positive", "apology": None}


def test_fresh_asks_everything_again(project: Project) -> None:
    project.gptflow("run", "spec.yaml")
    project.asked()
    project.gptflow("run", "spec.yaml", "--fresh")
    assert len(project.asked()) == 4


def test_equal_rows_are_asked_once_and_written_each(project: Project) -> None:
    project.write_rows([{"text": "good"}] * 20)
    project.gptflow("run", "spec.yaml")
    assert len(project.output()) == 20
    assert len(project.asked()) == 1


def test_calls_that_may_vary_are_asked_for_each_row_and_found_again(project: Project) -> None:
    varied = ("--set", "model.temperature=1", "--set", "source={range: 5}")
    story = (
        "--set",
        "steps.label.prompt=Label a story",
        "--set",
        "steps.apology.when=false",
        "--set",
        "steps.apology.prompt=-",
    )
    project.gptflow("run", "spec.yaml", *varied, *story)
    assert len(project.asked()) == 5
    extractor = ("--set", "steps.label.extract.label.type=str")
    project.gptflow("run", "spec.yaml", *varied, *story, *extractor)
    assert project.asked() == []


@pytest.mark.parametrize(
    "project",
    [{"reply": [{"match": "bad", "text": "Hm."}, {"text": "It is positive."}]}],
    indirect=True,
)
def test_a_row_without_a_valid_reply_fails_and_is_told_apart(project: Project) -> None:
    said = project.gptflow("run", "spec.yaml", code=1)
    assert "done 2, failed 1" in said
    assert "--retry failed" in said
    assert [row["id"] for row in project.output()] == [1, 3]
    (failed,) = project.output("out/labels.failed.jsonl")
    assert failed["row"] == {"id": 2, "text": "bad"}
    assert (failed["error"]["kind"], failed["error"]["step"]) == ("invalid", "label")
    assert failed["reply"] == "Hm."


@pytest.mark.parametrize(
    "project", [{"reply": [{"match": "bad", "text": "Hm."}, {"text": "positive"}]}], indirect=True
)
def test_retry_failed_asks_the_failed_rows_only(project: Project) -> None:
    project.gptflow("run", "spec.yaml", code=1)
    project.asked()
    project.gptflow("run", "spec.yaml", code=1)
    assert project.asked() == []
    project.gptflow("run", "spec.yaml", "--retry", "failed", code=1)
    assert project.asked() == ["Label bad as one of positive, negative."]


def test_reask_tells_the_model_what_was_wrong(project: Project) -> None:
    reask = ("--set", "steps.label.on_invalid={reask: 1, then: keep}")
    choice = ("--set", "steps.label.extract.label.choice=[up, down]")
    project.gptflow("run", "spec.yaml", *reask, *choice, "--set", "source.limit=1")
    first, second = project.asked()
    assert first == "Label good as one of positive, negative."
    assert "cannot be used" in second
    assert "up, down" in second
    assert project.output()[0]["label"] is None


def test_a_truncated_reply_can_be_asked_again(project: Project) -> None:
    short = ("--set", "model.max_tokens=2", "--set", "steps.label.extract={label: text}")
    project.gptflow("run", "spec.yaml", *short)
    project.asked()
    said = project.run_json("spec.yaml", *short, "--retry", "truncated")
    assert said["calls"] == 3
    assert len(project.asked()) == 3


@pytest.mark.parametrize("project", [{"latency": "300ms"}], indirect=True)
def test_the_output_grows_while_the_run_goes_on(project: Project) -> None:
    project.write_rows([{"text": f"good {n}"} for n in range(40)])
    process = project.start("run", "spec.yaml", "--set", "parallelism.concurrency=4")
    part = project.folder / "out/labels.jsonl.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (project.folder / "out/labels.jsonl").exists()
    assert json.loads(part.read_text().splitlines()[0])["text"] == "good 0"
    process.communicate()
    assert len(project.output()) == 40
    assert not part.exists()


@pytest.mark.parametrize("project", [{"latency": "500ms"}], indirect=True)
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_one_signal_lets_the_rows_in_flight_finish(
    project: Project, number: signal.Signals, code: int
) -> None:
    process, done = interrupted(project, number, times=1)
    assert process.returncode == code
    assert "gptflow run spec.yaml" in done["said"]
    assert done["answered"] == done["asked"]
    assert "goes on" in project.gptflow("run", "spec.yaml")
    assert len(project.output()) == 100
    assert len({entry.request for entry in project.requests}) == len(project.requests) == 100


@pytest.mark.parametrize("project", [{"latency": "10s"}], indirect=True)
def test_a_second_signal_stops_at_once(project: Project) -> None:
    began_s = time.monotonic()
    process, _ = interrupted(project, signal.SIGINT, times=2)
    assert process.returncode == 130
    assert time.monotonic() - began_s < 8


def interrupted(project: Project, number: signal.Signals, times: int) -> tuple[Any, dict[str, Any]]:
    """A run of 100 rows that is signalled once its first calls are on their way."""
    project.write_rows([{"text": f"good {n}"} for n in range(100)])
    process = project.start("run", "spec.yaml", "--set", "parallelism.concurrency=8")
    assert process.stderr is not None
    said = process.stderr.readline()
    project.wait_for_calls_in_flight(4)  # more an unknown key is not asked at first
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.3)
    out, err = process.communicate(timeout=60)
    answered = sum(entry.answered for entry in project.requests)
    return process, {"said": said + out + err, "asked": len(project.requests), "answered": answered}


def test_a_second_process_is_told_who_holds_the_store(project: Project) -> None:
    process = project.start("run", "spec.yaml", "--set", "source.path=-", stdin=-1)
    process.kill()
    process.communicate()
    project.write_rows([{"text": f"good {n}"} for n in range(2000)])
    first = project.start("run", "spec.yaml", "--set", "parallelism.concurrency=1")
    assert first.stderr is not None
    first.stderr.readline()
    said = project.gptflow("run", "spec.yaml", code=2)
    assert str(first.pid) in said
    first.kill()
    first.communicate()


def test_standard_input_is_a_source(project: Project) -> None:
    lines = "".join(json.dumps({"text": f"good {n}"}) + "\n" for n in range(3))
    process = project.start("run", "spec.yaml", "--set", "source.path=-", stdin=-1)
    out, err = process.communicate(lines, timeout=60)
    assert process.returncode == 0, out + err
    assert [row["text"] for row in project.output()] == ["good 0", "good 1", "good 2"]


def test_rows_come_out_as_they_went_in(project: Project) -> None:
    line = (
        '{"z": 1.10, "text":"good é \\u00e9 🙂", "n": 12345678901234567890123, "a": {"y": [1e5]}}'
    )
    project.write("reviews.jsonl", line + "\n")
    project.gptflow("run", "spec.yaml")
    text = (project.folder / "out/labels.jsonl").read_text(encoding="utf-8")
    assert text == line[:-1] + ',"label":"positive","apology":null}\n'


BAD = [{"reply": [{"match": "bad", "text": "Hm."}, {"text": "positive"}]}]


@pytest.mark.parametrize("project", BAD, indirect=True)
def test_a_rehearsal_in_between_does_not_hide_the_run_to_retry(project: Project) -> None:
    project.gptflow("run", "spec.yaml", code=1)
    project.gptflow("run", "spec.yaml", "--mock")
    project.asked()
    project.gptflow("run", "spec.yaml", "--retry", "failed", code=1)
    assert project.asked() == ["Label bad as one of positive, negative."]


@pytest.mark.parametrize("project", BAD, indirect=True)
def test_retry_failed_asks_again_also_after_a_step_was_renamed(project: Project) -> None:
    project.gptflow("run", "spec.yaml", code=1)
    project.asked()
    renamed = ("--set", "steps.0.name=judge")
    project.gptflow("run", "spec.yaml", *renamed, code=1)
    assert project.asked() == []
    project.gptflow("run", "spec.yaml", *renamed, "--retry", "failed", code=1)
    assert project.asked() == ["Label bad as one of positive, negative."]


@pytest.mark.parametrize("project", [{"latency": "500ms"}], indirect=True)
def test_new_answers_stay_wanted_when_a_fresh_run_is_followed_by_an_edit(project: Project) -> None:
    rows = [{"text": f"good {n}"} for n in range(10)]
    project.write_rows(rows)
    project.gptflow("run", "spec.yaml")
    project.asked()
    slow = ("--set", "parallelism.concurrency=2")
    process = project.start("run", "spec.yaml", "--fresh", *slow)
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    fresh = len(project.asked())
    project.write_rows([*rows, {"text": "good 10"}])
    project.gptflow("run", "spec.yaml")
    assert fresh < 10
    assert len(project.asked()) == 11 - fresh


REFUSED = [{"failures": [{"name": "refusal", "match": "bad"}]}]


@pytest.mark.parametrize("project", REFUSED, indirect=True)
def test_a_refusal_is_stored_and_counted_and_asked_again_only_by_retry(project: Project) -> None:
    said = project.run_json("spec.yaml", code=1)
    assert (said["failed"], said["calls"]) == (1, 3)
    assert len(project.asked()) == 3
    edited = ("--set", "steps.label.extract.label.type=str")
    said = project.run_json("spec.yaml", *edited, code=1)
    assert (said["failed"], said["calls"], said["reused_calls"]) == (1, 0, 3)
    assert project.asked() == []
    project.gptflow("run", "spec.yaml", *edited, "--retry", "failed", code=1)
    assert project.asked() == ["Label bad as one of positive, negative."]
