from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Gptflow
from tests.project import SPEC


def test_a_spec_without_problems_says_so_with_its_fields(gptflow: Gptflow) -> None:
    said = gptflow("validate", "spec.yaml")
    assert (said.code, said.err) == (0, "")
    assert said.out == "spec.yaml: no problems (2 steps, fields: label, apology)\n"


def test_all_problems_are_listed_with_place_hint_and_count(gptflow: Gptflow, folder: Path) -> None:
    wrong = SPEC.replace("{{ text }} as", "{{ txet }} as").replace("vars:", "vras:")
    (folder / "spec.yaml").write_text(wrong)
    said = gptflow("validate", "spec.yaml")
    assert (said.code, said.out) == (2, "")
    assert "spec.yaml:3:1: unknown key 'vras'\n" in said.err
    assert 'prompt: "Label {{ txet }} as one of' in said.err
    assert "^^^^" in said.err
    assert "Did you mean 'text'?" in said.err
    assert said.err.endswith("problems; nothing was sent.\n")


def test_json_lists_the_problems_for_programs(gptflow: Gptflow) -> None:
    said = gptflow("validate", "spec.yaml", "--json", "--set", 'steps.label.prompt="{{ txet }}"')
    assert said.code == 2
    (problem,) = json.loads(said.out)
    assert problem == {
        "file": "--set",
        "line": 1,
        "column": 24,
        "message": "no column, field or var is named 'txet' (prompt of step 'label')",
        "hint": "the source has id, text. Did you mean 'text'?",
    }


def test_json_without_problems_is_an_empty_list(gptflow: Gptflow) -> None:
    said = gptflow("validate", "spec.yaml", "--json")
    assert (said.code, json.loads(said.out)) == (0, [])


def test_a_value_that_is_set_counts(gptflow: Gptflow) -> None:
    said = gptflow("validate", "spec.yaml", "--set", "steps.apology.when=true")
    assert said.code == 0


def test_data_that_is_broken_is_told(gptflow: Gptflow, folder: Path) -> None:
    (folder / "reviews.jsonl").write_text('{"id": 1, "text": "good"}\n{"id": 2 "text": "bad"}\n')
    said = gptflow("validate", "spec.yaml")
    assert said.code == 2
    assert said.err.startswith("reviews.jsonl:2: not valid JSON")


def test_validating_needs_no_key_and_leaves_nothing_behind(gptflow: Gptflow, folder: Path) -> None:
    gptflow("validate", "spec.yaml")
    assert sorted(path.name for path in folder.iterdir()) == ["reviews.jsonl", "spec.yaml"]


@pytest.mark.parametrize("extractor", ["{schema: {type: array}}", "{json: label}", "text"])
def test_each_kind_of_extractor_can_be_validated(gptflow: Gptflow, extractor: str) -> None:
    said = gptflow("validate", "spec.yaml", "--set", f"steps.label.extract.label={extractor}")
    assert said.code == 0, said.err
