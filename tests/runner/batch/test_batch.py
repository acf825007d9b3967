"""Runs in batch mode, from the first upload to the output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.runner.batch.conftest import ROWS, SPEC, Desk, done

ASYNC = ("--mode", "async")
NUMBERS = range(ROWS)


def failures(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"failures": list(rules)}


def failed_alone(desk: Desk) -> list[dict[str, Any]]:
    """What is told of the failed rows, without the attempts, which each mode counts for itself."""
    rows = desk.output("out.failed.jsonl")
    for row in rows:
        row["error"].pop("history")
    return rows


def test_a_round_asks_every_row_and_the_next_one_what_follows(desk: Desk) -> None:
    desk.serve()
    assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)
    assert desk.submitted() == [4, 4, 2, 4, 1]
    assert not list(desk.folder.glob(".gptflow/*.batches"))


def test_the_output_is_that_of_async_mode(desk: Desk) -> None:
    told = failures(
        {"name": "refusal", "match": "Label row 2"},
        {"name": "context_length_exceeded", "match": "Label row 3"},
        {"name": "empty_content", "match": "Apologise to row 4"},
    )
    desk.serve(**told)
    assert desk.run() == 1
    output, failed = (desk.folder / "out.jsonl").read_bytes(), failed_alone(desk)
    assert desk.run(*ASYNC, "--fresh") == 1
    assert (desk.folder / "out.jsonl").read_bytes() == output
    assert failed_alone(desk) == failed


def test_a_run_goes_on_in_another_mode_and_back(desk: Desk) -> None:
    desk.serve()
    assert desk.run(*ASYNC, "--set", "source.limit=3") == 0
    asked = len(desk.requests)
    assert desk.run("--set", "source.limit=6") == 0
    assert sum(desk.submitted()) == 4
    assert desk.run(*ASYNC) == 0
    chats = [entry for entry in desk.requests[asked:] if "chat" in entry.path]
    assert len(chats) == 6
    assert desk.output() == done(*NUMBERS)


def test_a_question_of_several_rows_is_uploaded_once(desk: Desk) -> None:
    (desk.folder / "spec.yaml").write_text(SPEC.replace("Label row {{ number }}", "Label row 1"))
    desk.serve()
    assert desk.run() == 0
    assert desk.submitted() == [1]
    assert len(desk.output()) == ROWS


def test_one_file_has_one_model(desk: Desk) -> None:
    spec = SPEC.replace(
        'row {{ number }}."\n    extract: {apology',
        'row {{ number }}."\n    model: {name: gpt-4o}\n    extract: {apology',
    )
    (desk.folder / "spec.yaml").write_text(spec)
    desk.serve()
    assert desk.run("--set", "parallelism.batch.requests=100") == 0
    assert desk.submitted() == [10, 5]
    assert desk.output() == done(*NUMBERS)


def test_what_an_expired_batch_did_not_answer_is_asked_in_the_next_round(desk: Desk) -> None:
    desk.serve(batch={"ends": [{"status": "expired", "first": 1, "answered": 0.5}]})
    assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)
    assert sum(desk.submitted()) == 15 + 2


def test_a_cancelled_batch_stops_the_run_and_its_answers_are_kept(desk: Desk) -> None:
    desk.serve(batch={"ends": [{"status": "cancelled", "first": 1, "answered": 0.5}]})
    assert desk.run() == 3
    assert desk.submitted() == [4, 4, 2]
    assert desk.run() == 0
    assert desk.output() == done(*NUMBERS)
    assert sum(desk.submitted()) == 15 + 2


def test_a_batch_that_the_provider_has_no_room_for_is_made_again(desk: Desk) -> None:
    full = {"status": "failed", "first": 1, "code": "token_limit_exceeded"}
    desk.serve(batch={"ends": [full]})
    assert desk.run() == 0
    assert desk.submitted() == [4, 4, 2, 4, 4, 1]
    assert desk.uploaded() == [4, 4, 2, 4, 1]
    assert desk.output() == done(*NUMBERS)


def test_no_more_tokens_are_enqueued_than_the_spec_allows(desk: Desk) -> None:
    desk.serve(batch={"enqueued_tokens": 40})
    assert desk.run("--set", "parallelism.batch.enqueued_tokens=40") == 0
    assert desk.output() == done(*NUMBERS)
    assert len(desk.submitted()) == len(desk.uploaded())  # none was refused


def test_a_call_is_asked_as_often_as_attempts_allow(desk: Desk) -> None:
    desk.serve(batch={"lines": [{"name": "server_500", "match": "row 3"}]})
    assert desk.run("--set", "limits.attempts=2") == 1
    (failed,) = desk.output("out.failed.jsonl")
    assert failed["error"]["kind"] == "server"
    assert failed["error"]["attempts"] == 2
    assert sum(desk.submitted()) == 15 + 1


def test_failed_rows_are_asked_again_by_retry(desk: Desk) -> None:
    first = {"name": "context_length_exceeded", "match": "row 3", "first": 1}
    desk.serve(batch={"lines": [first]})
    assert desk.run() == 1
    assert desk.run("--retry", "failed") == 0
    assert desk.output() == done(*NUMBERS)
    assert sum(desk.submitted()) == 15 + 1


def test_requests_that_fail_for_a_passing_reason_are_sent_again(desk: Desk) -> None:
    broken = [
        {"name": "server_500", "first": 1, "match": "GET"},
        {"name": "reset_before_reply", "first": 1, "match": "POST /v1/batches"},
    ]
    desk.serve(batch={"requests": broken})
    assert desk.run("--set", "parallelism.batch.requests=100") == 0
    made = [entry for entry in desk.requests if (entry.method, entry.path) == BATCHES]
    assert len(made) == 2  # the first answer was lost, and its batch was found


BATCHES = ("POST", "/v1/batches")


def test_rejected_calls_that_are_all_alike_stop_the_run(desk: Desk) -> None:
    desk.write_rows(12)
    desk.serve(batch={"lines": [{"name": "context_length_exceeded"}]})
    assert desk.run() == 3
    with desk.store() as store:
        run = store.reader.latest_run()
        assert run is not None
        assert store.reader.counts(run.run_id).pending == 12
        assert not store.batches.has_faults(run.run_id)


def test_a_rehearsal_gives_replies_that_the_extractors_take(desk: Desk) -> None:
    assert desk.run("--mock") == 0
    rows = desk.output("out.simulated.jsonl")
    assert {row["label"] for row in rows} <= {"good", "bad"}


def test_a_batch_costs_half(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.serve()
    priced = ("--set", "limits.prices={gpt-4o-mini: {input: 1, output: 2}}", "--json")

    def cost_usd(mode: str) -> float:
        assert desk.run(*priced, "--mode", mode, "--fresh") == 0
        return float(json.loads(capsys.readouterr().out)["cost_usd"])

    assert cost_usd("batch") * 2 == cost_usd("async") > 0


def test_a_reask_is_one_more_round(desk: Desk) -> None:
    spec = SPEC.replace(
        "choice: [good, bad]}}", "choice: [fine, bad]}}\n    on_invalid: {reask: 1}"
    )
    (desk.folder / "spec.yaml").write_text(spec)
    desk.serve()
    assert desk.run("--set", "parallelism.batch.requests=100", "--set", "source.limit=2") == 1
    assert desk.submitted() == [2, 2]  # row 1 is asked again, row 0 goes on
    assert [row["row"]["number"] for row in desk.output("out.failed.jsonl")] == [1]


HOOKS = """
def summed(row, wrapper):
    first = wrapper.completions_with_backoff(messages=f"Label row {row['number']}.")
    return {"both": f"{first}, " + wrapper.completions_with_backoff(
        messages=f"Apologise to row {row['number']}."
    )}
"""


def test_a_function_that_asks_goes_on_in_each_round(desk: Desk) -> None:
    (desk.folder / "hooks.py").write_text(HOOKS)
    step = '  - name: both\n    python: "hooks:summed"\n    fields: [both]\n'
    head, _, tail = SPEC.partition("steps:\n")
    (desk.folder / "spec.yaml").write_text(
        f"{head}steps:\n{step}{tail[tail.index('parallelism') :]}"
    )
    desk.serve()
    python = ("--allow-python", "--python-path", ".", "--set", "source.limit=3")
    assert desk.run(*python) == 0
    assert desk.submitted() == [3, 3]
    assert desk.output()[1] == {"number": 1, "both": "good, Sorry, 1."}
