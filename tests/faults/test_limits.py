"""Runs that reach a limit: they stop with exit code 3, and the same command goes on from there."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from gptflow.runner.display import NoDisplay
from gptflow.runner.prepare import prepare
from gptflow.runner.runner import Runner, RunOptions
from gptflow.runner.server import ServerChoice
from gptflow.runner.summary import RunSummary
from tests.project import REVIEWS, Project, serving


def fill(project: Project, rows: int, spec: str = REVIEWS) -> None:
    project.write("spec.yaml", spec)
    project.write_rows([{"number": number} for number in range(rows)])


def work(project: Project, *changes: str, mock: bool = False, **options: Any) -> RunSummary:
    """What `gptflow run` does, in this process; `changes` are those of --set."""
    with chdir(project.folder):
        prepared = prepare("spec.yaml", ServerChoice(mock=mock), overrides=changes)
        return Runner(prepared, RunOptions(**options), NoDisplay()).run()


def answered(project: Project) -> Counter[str]:
    """How often each question was answered."""
    return Counter(str(entry.request) for entry in project.requests if entry.status == 200)


# ------------------------------------------------------------------ wall_s


def test_a_command_ends_when_its_time_is_over_and_the_same_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, {"latency": "50ms", "reply": "echo"}) as project:
        rows = 1200
        fill(project, rows, REVIEWS + "parallelism: {concurrency: 4}\n")
        said = project.gptflow("run", "spec.yaml", "--set", "limits.wall_s=3", code=3)
        ended = len(answered(project))
        assert 0 < ended < rows
        assert f"stopped: done {ended}, failed 0, to do {rows - ended:,}" in said
        assert re.search(
            r"limits.wall_s is reached: the command has worked for \d+(\.\d+)? s", said
        )
        assert "next: gptflow run spec.yaml --set limits.wall_s=3   # goes on" in said
        assert not (tmp_path / "out/labels.jsonl").exists()
        assert (tmp_path / "out/labels.jsonl.part").exists()
        assert work(project, "parallelism.concurrency=200").exit_code == 0
        assert set(answered(project).values()) == {1}
        assert [row["number"] for row in project.output()] == list(range(rows))


def test_calls_that_hang_are_waited_for_and_not_tried_again(tmp_path: Path) -> None:
    failures = [{"name": "hang", "after": 3}]
    with serving(tmp_path, {"reply": "echo", "failures": failures}) as project:
        limits = "limits: {wall_s: 2, timeout_s: 3}\nparallelism: {concurrency: 8}\n"
        fill(project, 20, REVIEWS + limits)
        stopped = work(project)
        assert (stopped.done, stopped.failed, stopped.exit_code) == (3, 0, 3)
        assert stopped.wall_s < 60


@pytest.mark.parametrize(
    "failure",
    [
        {"name": "insufficient_quota"},
        {"name": "rate_limit_rpm", "retry_after": 600},
        {"name": "server_500", "retry_after": 600},
    ],
    ids=["key", "rest", "backoff"],
)
def test_what_only_waits_ends_at_once_when_the_time_is_over(
    failure: dict[str, Any], tmp_path: Path
) -> None:
    scenario = {"reply": "echo", "failures": [{**failure, "after": 3}]}
    with serving(tmp_path, scenario) as project:
        fill(project, 20, REVIEWS + "limits: {wall_s: 4}\n")
        stopped = work(project)
        assert "limits.wall_s is reached" in str(stopped.message)
        assert (stopped.done, stopped.failed, stopped.exit_code) == (3, 0, 3)
        assert stopped.wall_s < 60


# ------------------------------------------------------------------ failed_rows

REJECTED = {"failures": {"context_length_exceeded": 0.15}, "reply": "echo", "latency": "5ms"}


def test_a_run_stops_when_too_large_a_share_of_its_rows_fails(tmp_path: Path) -> None:
    with serving(tmp_path, REJECTED) as project:
        limits = "limits: {failed_rows: 5%}\nparallelism: {concurrency: 8}\n"
        fill(project, 400, REVIEWS + limits)
        said = project.gptflow("run", "spec.yaml", code=3)
        asked = len(project.asked())
        assert 50 <= asked < 50 + 3 * 8
        assert re.search(r"limits.failed_rows is reached: \d+ of 5\d rows failed", said)
        assert f"to do {400 - asked}" in said
        assert "failed rows: This model's maximum context length" in said
        assert "next: gptflow run spec.yaml --retry failed   # goes on" in said
        assert not (tmp_path / "out/labels.jsonl").exists()

        again = work(project)
        assert "limits.failed_rows is reached" in str(again.message)
        assert (again.calls, again.exit_code, project.asked()) == (0, 3, [])

        assert work(project, "limits.failed_rows=50%").exit_code == 1
        assert len(project.asked()) == 400 - asked


def test_rows_that_are_asked_again_have_not_failed_yet(tmp_path: Path) -> None:
    failures = [{"name": "context_length_exceeded", "match": "[37]", "first": 4}]
    with serving(tmp_path, {"reply": "echo", "failures": failures}) as project:
        fill(project, 60, REVIEWS + "limits: {failed_rows: 3}\nparallelism: {concurrency: 1}\n")
        stopped = work(project)
        assert "limits.failed_rows is reached: 4 rows failed, 3 allowed" in str(stopped.message)
        assert (stopped.exit_code, stopped.failed) == (3, 4)
        assert work(project).calls == 0
        assert (work(project, retry="failed").exit_code, len(project.output())) == (0, 60)


def test_rows_that_fail_alike_again_fail_and_the_run_ends(tmp_path: Path) -> None:
    failures = [{"name": "context_length_exceeded", "match": "[37]"}]
    with serving(tmp_path, {"reply": "echo", "failures": failures}) as project:
        fill(project, 60)
        assert work(project).exit_code == 1
        again = work(project, retry="failed")
        assert (again.exit_code, again.failed, again.pending) == (1, 20, 0)


def test_many_rows_that_are_refused_before_the_first_answer_comes_fail_alone(
    tmp_path: Path,
) -> None:
    refused = {"failures": {"context_length_exceeded": 0.3}, "reply": "echo", "latency": "1s"}
    with serving(tmp_path, refused) as project:
        fill(project, 64, REVIEWS + "parallelism: {concurrency: 64}\n")
        summary = work(project)
        assert summary.exit_code == 1
        assert summary.failed >= 10


def test_a_stop_for_failed_rows_is_listed_with_its_run(tmp_path: Path) -> None:
    failures = [{"name": "context_length_exceeded", "match": "review 2"}]
    with serving(tmp_path, {"reply": "echo", "failures": failures}) as project:
        fill(project, 10, REVIEWS + "limits: {failed_rows: 0}\nparallelism: {concurrency: 1}\n")
        assert work(project).exit_code == 3
        said = project.gptflow("runs")
        assert "  stopped: " in said
        assert "1 failed; limits.failed_rows is reached: 1 row failed, 0 allowed\n" in said


# ------------------------------------------------------------------ cost_usd

USD = 0.001
"""A token of a reply; those of prompts are free."""
REPLY = "0123456789" * 4
"""Ten tokens."""


def priced(limit_usd: float, lanes: int) -> str:
    spec = REVIEWS.replace("temperature: 0", "temperature: 0, max_tokens: 50")
    prices = "{gpt-4o-mini: {input: 0, output: 1000}}"
    limits = f"limits: {{cost_usd: {limit_usd}, prices: {prices}}}\n"
    return f"{spec}{limits}parallelism: {{concurrency: {lanes}}}\n"


def paid_usd(project: Project) -> float:
    return sum(entry.completion_tokens or 0 for entry in project.requests) * USD


def test_a_budget_is_spent_to_the_end_and_not_overrun(tmp_path: Path) -> None:
    with serving(tmp_path, {"reply": {"text": REPLY}, "latency": "20ms"}) as project:
        fill(project, 300, priced(1, lanes=64))
        said = project.gptflow("run", "spec.yaml", code=3)
        assert paid_usd(project) == pytest.approx(1.0)
        assert "stopped: done 100, failed 0, to do 200" in said
        assert (
            "limits.cost_usd is reached: $1.00 of $1.00 spent; the next call may cost $0.01\n"
            "Hint: raise it to go on: --set limits.cost_usd=3\n"
            "next: gptflow run spec.yaml --set limits.cost_usd=3   # goes on"
        ) in said

        again = project.gptflow("run", "spec.yaml", code=3)
        assert "limits.cost_usd is reached: $1.00 of $1.00 spent" in again
        assert len(project.requests) == 100

        raised = project.gptflow("run", "spec.yaml", "--set", "limits.cost_usd=100")
        assert "goes on: 100 rows ended before" in raised
        assert set(answered(project).values()) == {1}
        assert len(project.output()) == 300
        assert len(json.loads(project.gptflow("runs", "--json"))) == 1


def test_money_for_replies_that_tell_no_tokens_is_spent_once(tmp_path: Path) -> None:
    silent = {"reply": {"text": REPLY}, "failures": [{"name": "usage_missing"}]}
    with serving(tmp_path, silent) as project:
        fill(project, 200, priced(0.5, lanes=8))
        assert work(project).calls == 50
        again = work(project)
        assert (again.calls, again.exit_code) == (0, 3)
        assert "$0.50 of $0.50 spent" in str(again.message)
        assert work(project, "limits.cost_usd=0.7").calls == 20


def test_a_kill_forgets_no_money_of_replies_that_are_stored(tmp_path: Path) -> None:
    silent = {"reply": {"text": REPLY}, "latency": "20ms", "failures": [{"name": "usage_missing"}]}
    with serving(tmp_path, silent) as project:
        fill(project, 400, priced(1.5, lanes=8))
        process = project.start("run", "spec.yaml")
        while len(project.requests) < 40:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        project.gptflow("run", "spec.yaml", code=3)
        assert 150 <= len(project.requests) <= 150 + 8


def test_replies_of_any_length_and_failures_overrun_it_by_what_is_in_flight_at_most(
    tmp_path: Path,
) -> None:
    words = {"template": "{{ 'word ' * (1 + hash % 50) }}"}
    failures = {"server_500": 0.1, "context_length_exceeded": 0.1}
    with serving(tmp_path, {"reply": words, "failures": failures}) as project:
        fill(project, 2000, priced(2, lanes=16))
        assert work(project, "limits.attempts=2").exit_code == 3
        assert 2 - 50 * USD <= paid_usd(project) <= 2 + 16 * 50 * USD
        assert set(answered(project).values()) == {1}


def test_with_money_for_one_call_sixty_four_lanes_come_to_an_end(tmp_path: Path) -> None:
    with serving(tmp_path, {"reply": {"text": REPLY}, "latency": "50ms"}) as project:
        fill(project, 100, priced(0.05, lanes=64))
        assert work(project).calls == 5
        assert work(project, "limits.cost_usd=0.06").calls == 1
        last = work(project, "limits.cost_usd=0.06")
        assert (last.calls, last.done, last.exit_code) == (0, 6, 3)


def test_ctrl_c_ends_the_calls_that_wait_for_money(tmp_path: Path) -> None:
    with serving(tmp_path, {"reply": {"text": REPLY}, "latency": "2s"}) as project:
        fill(project, 100, priced(0.06, lanes=8))
        process = project.start("run", "spec.yaml")
        while not project.requests and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, out + err
        asked = len(project.requests)
        assert f"interrupted: done {asked}, failed 0, to do {100 - asked}" in out
        assert asked <= 6


def test_replies_out_of_the_store_cost_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, {"reply": {"text": REPLY}}) as project:
        fill(project, 20, priced(10, lanes=4))
        assert work(project).cost_usd == pytest.approx(0.2)
        changed = priced(0, lanes=4).replace("label: text", "label: {regex: '\\d+'}")
        fill(project, 20, changed)
        again = work(project)
        assert (again.exit_code, again.calls, again.cost_usd) == (0, 0, 0)


def test_a_rehearsal_stops_for_simulated_money(tmp_path: Path) -> None:
    with serving(tmp_path, {}) as project:
        fill(project, 100, priced(0.2, lanes=4))
        stopped = work(project, mock=True)
        assert "of $0.20 (simulated) spent" in str(stopped.message)
        assert (stopped.exit_code, stopped.cost_usd) == (3, 0)


def test_a_step_that_a_row_in_flight_cannot_pay_is_asked_after_the_limit_is_raised(
    tmp_path: Path,
) -> None:
    second = "  - name: more\n    prompt: More.\n    extract: {more: text}\noutput:"
    with serving(tmp_path, {"reply": {"text": REPLY}}) as project:
        fill(project, 20, priced(0.15, lanes=8).replace("output:", second, 1))
        assert work(project).calls == 15
        assert work(project, "limits.cost_usd=1").calls == 25
        assert set(answered(project).values()) == {1}
