"""Disks that are full, read-only or broken: the run says so, and goes on when they are mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import small_disk
from tests.project import Project, serving

ROWS = 150
CONCURRENCY = 8
SPEC = f"""
name: reviews
source: {{path: reviews.jsonl}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps:
  - name: label
    prompt: "Label review {{{{ number }}}}. {{{{ text }}}}"
    extract: {{label: text}}
parallelism: {{concurrency: {CONCURRENCY}}}
output: {{path: out/labels.jsonl}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A run of ROWS rows that needs about a megabyte on the disk of its store."""
    with serving(tmp_path, {"latency": "5ms", "reply": "echo"}) as project:
        project.write("spec.yaml", SPEC)
        project.write_rows([{"number": number, "text": "x" * 3000} for number in range(ROWS)])
        yield project


def finish(project: Project, *options: str) -> None:
    """Runs it to its end; no more is asked again than what was in flight at the fault."""
    project.gptflow("run", "spec.yaml", "-q", *options)
    asked = Counter(entry.request for entry in project.requests)
    assert len(asked) == ROWS
    assert sum(asked.values()) - ROWS <= CONCURRENCY


def numbers(project: Project, output: str = "out/labels.jsonl") -> list[int]:
    return [row["number"] for row in project.output(output)]


# ------------------------------------------------------------------ full


def test_a_full_disk_in_the_middle_of_a_run(project: Project, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        store = "small/reviews.db"
        said = project.gptflow("run", "spec.yaml", "-q", "--store", store, code=2)
        assert said.startswith(f"the store {store} has no room left on its disk: ")
        assert "Hint: make room; what was stored before is safe, and the same command" in said
        assert 0 < len(project.requests) < ROWS
        assert not (tmp_path / "out/labels.jsonl").exists()
        disk.grow()
        finish(project, "--store", store)
    assert numbers(project) == list(range(ROWS))


@pytest.mark.parametrize("spare", [0, 8192, 40_000], ids=["nothing", "the lock", "some tables"])
def test_a_disk_with_room_for_no_store(project: Project, tmp_path: Path, spare: int) -> None:
    with small_disk(tmp_path / "small", "8m") as disk:
        disk.fill(spare)
        store = "small/reviews.db"
        said = project.gptflow("run", "spec.yaml", "-q", "--store", store, code=2)
        assert said.startswith(f"the store {store} ")
        assert "Hint: make room" in said
        assert project.requests == []
        disk.free()
        finish(project, "--store", store)


def test_a_full_disk_under_the_output_loses_nothing_that_is_stored(
    project: Project, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "100k") as disk:
        output = ("--set", "output.path=small/labels.jsonl")
        said = project.gptflow("run", "spec.yaml", "-q", *output, code=2)
        assert "small/labels.jsonl: cannot be written: No space left on device\nHint: " in said
        assert "make room or choose another place; the rows are in the store" in said
        assert not (disk.folder / "labels.jsonl").exists()
        disk.grow()
        finish(project, *output)
        assert numbers(project, "small/labels.jsonl") == list(range(ROWS))
    assert len(project.requests) == ROWS
