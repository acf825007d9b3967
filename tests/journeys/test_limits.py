from __future__ import annotations

import re
import shlex

import pytest

from tests.project import REVIEWS, Project

SPEC = REVIEWS + "limits: {prices: {gpt-4o-mini: {input: 0, output: 3}}}\n"
REPLY = {"reply": {"text": "0123456789" * 4}}
"""Ten tokens: $0.00003."""
REJECTING = {"failures": [{"name": "context_length_exceeded"}]}


def fill(project: Project, rows: int) -> None:
    project.write("spec.yaml", SPEC)
    project.write_rows([{"number": number} for number in range(rows)])


def next_words(said: str) -> list[str]:
    """The command that a run says at its end, without its `gptflow`."""
    (command,) = re.findall(r"^next: gptflow (.*?)(?:   #.*)?$", said, re.MULTILINE)
    return shlex.split(command)


@pytest.mark.parametrize("project", [REJECTING], indirect=True)
@pytest.mark.parametrize(("lanes", "allowed"), [(1, 0), (8, 1)])
def test_no_row_is_begun_after_the_one_that_fails_too_many(
    project: Project, lanes: int, allowed: int
) -> None:
    fill(project, 200)
    limits = ("--set", f"limits.failed_rows={allowed}", "--set", f"parallelism.concurrency={lanes}")
    said = project.gptflow("run", "spec.yaml", *limits, code=3)
    failed = len(project.asked())
    assert allowed < failed <= allowed + lanes
    assert f"stopped: done 0, failed {failed}, to do {200 - failed}" in said
    assert re.search(rf"is reached: {failed} rows? failed, {allowed} allowed", said)


def test_rows_that_fail_unasked_are_judged_one_by_one(project: Project) -> None:
    fill(project, 200)
    missing = ("--set", "steps.label.prompt='{{ number.nothing.at_all }}'")
    said = project.gptflow("run", "spec.yaml", *missing, "--set", "limits.failed_rows=2", code=3)
    assert "failed 3, to do 197" in said


@pytest.mark.parametrize("project", [REPLY], indirect=True)
def test_what_all_rows_cost_is_said_after_the_first_in_the_place_of_the_old_limit(
    project: Project,
) -> None:
    fill(project, 40)
    changes = ("limits.cost_usd=0", "model.max_tokens=10", "limits.cost_usd=3e-05")
    words = [word for change in changes for word in ("--set", change)]
    said = project.gptflow("run", "spec.yaml", *words, code=3)
    assert "$0.00003 of $0.00003 spent" in said
    raised = ["--set", "model.max_tokens=10", "--set", "limits.cost_usd=0.0012"]
    assert next_words(said) == ["run", "spec.yaml", *raised]
    assert "done 40, failed 0" in project.gptflow(*next_words(said))


def test_a_time_too_short_for_any_call_is_said_to_be_with_one_that_is_not(
    project: Project,
) -> None:
    fill(project, 4)
    said = project.gptflow("run", "spec.yaml", "--set", "limits.wall_s=0.0001", code=3)
    assert "in which no row has ended\nHint: give it more time: --set limits.wall_s=120\n" in said
    assert next_words(said) == ["run", "spec.yaml", "--set", "limits.wall_s=120"]
    assert "done 4, failed 0" in project.gptflow(*next_words(said))
