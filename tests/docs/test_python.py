"""docs/python.md: its spec runs with its functions as they stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.conftest import Page
from tests.own_python import forgotten_afterwards
from tests.project import Project, serving

REPLIES = [
    {"match": "^On which day", "text": "2026-05-03"},
    {"match": "^Answer: (.*)", "text": "Gladly."},
    {"match": "^Translate: Gladly", "text": "Gern."},
    {"match": "", "text": "no"},
]
MORE = """
  - {name: best, python: "hooks:best_of_three", fields: [best]}
  - name: quote
    prompt: "Quote."
    extract: {quote: {python: "hooks:quoted"}}
    on_invalid: {then: keep}
"""


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path) -> Iterator[None]:
    with forgotten_afterwards(tmp_path):
        yield


@pytest.fixture
def page(root: Path) -> Page:
    return Page(root / "docs" / "python.md")


def test_the_example_runs_as_it_stands(page: Page, tmp_path: Path) -> None:
    (spec,) = page.blocks("yaml")
    (record,) = page.blocks("json")
    (commands,) = page.blocks("sh")
    with serving(tmp_path, {"reply": REPLIES, "models": ["gpt-4o-mini", "gpt-4o"]}) as project:
        project.write("lib/hooks.py", "\n\n".join(page.blocks("python")))
        project.write("tickets.yaml", spec)
        project.write("tickets.jsonl", record)
        for command in commands.splitlines():
            project.gptflow(*command.split()[1:], code=0)
        first, second = rows(project, spec)
        assert (first["day"], first["reply"]) == ("2026-05-03", None)
        assert (second["text"], second["reply"]) == ("Übermorgen, bitte.", "Gern.")
        more = spec.replace("output:", MORE.strip("\n") + "\noutput:")
        assert [(row["best"], row["quote"]) for row in rows(project, more)] == [("no", None)] * 2


def rows(project: Project, spec: str) -> list[dict[str, object]]:
    project.write("tickets.yaml", spec)
    project.run_json("tickets.yaml", "--allow-python", "--python-path", "lib")
    return project.output("out/tickets.jsonl")


def test_the_line_that_names_a_function_is_the_program_s(page: Page, tmp_path: Path) -> None:
    (told,) = re.findall(r"^    (runs hooks:.*)$", page.text, re.MULTILINE)
    project = Project(tmp_path, "")
    project.write("lib/hooks.py", page.blocks("python")[0])
    project.write("tickets.yaml", page.blocks("yaml")[0])
    project.write("tickets.jsonl", json.dumps({"id": 1, "messages": []}))
    said = project.gptflow("validate", "tickets.yaml", "--allow-python", "--python-path", "lib")
    assert told in said.splitlines()
