"""Specs, rows and replies that mean harm: what docs/safety.md promises, line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import Project, serving

ECHO = """
name: echo
source: {path: reviews.jsonl}
model: {name: gpt-4o-mini, temperature: 0}
steps: [{name: ask, prompt: "{{ text }}", extract: {said: text}}]
"""
"""A spec whose answers are its questions, where the server echoes."""


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """SPEC with three reviews, and a server that answers it, or as the test's parameter says."""
    with serving(tmp_path, getattr(request, "param", {})) as made:
        yield made


@pytest.mark.parametrize("project", [{"reply": "echo"}], indirect=True)
def test_a_safe_csv_runs_no_formula_of_a_row_or_a_model(project: Project) -> None:
    project.write_rows([{"id": -5, "text": "=HYPERLINK('http://evil')", "=1+1": "x"}])
    project.write("spec.yaml", ECHO + "output: {path: out.csv, csv_safe: true}\n")
    project.gptflow("run", "spec.yaml")
    with (project.folder / "out.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert header == ["id", "text", "'=1+1", "said"]
    assert row == ["-5", "'=HYPERLINK('http://evil')", "x", "'=HYPERLINK('http://evil')"]
