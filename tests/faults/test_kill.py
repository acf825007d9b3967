"""A run that is killed again and again, and then left to finish."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.project import Project, serving

ROWS = 300
CONCURRENCY = 8
KILLS = 3
LATENCY_S = 0.03
SPEC = f"""
name: reviews
source: {{path: reviews.jsonl}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps:
  - name: label
    prompt: "Label review {{{{ number }}}}."
    extract: {{label: text}}
  - name: apology
    prompt: "Apologise."
    extract: {{apology: text}}
parallelism: {{concurrency: {CONCURRENCY}}}
output: {{path: out/labels.jsonl}}
"""


def kill_at_work(project: Project, luck: random.Random) -> None:
    """Starts a run, and kills it at a random moment after its first request."""
    asked_before = len(project.requests)
    process = project.start("run", "spec.yaml", "-q")
    deadline_s = time.monotonic() + 20
    while len(project.requests) == asked_before and time.monotonic() < deadline_s:
        time.sleep(0.005)
    time.sleep(luck.uniform(0.0, 2 * ROWS * LATENCY_S / CONCURRENCY / (KILLS + 1)))
    assert process.poll() is None, "it had ended before it was killed"
    process.kill()
    process.communicate()


@pytest.mark.parametrize("seed", [1])
def test_no_row_is_lost_or_doubled_and_little_is_asked_twice(tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    with serving(tmp_path, {"latency": f"{LATENCY_S}s", "reply": "echo"}) as project:
        project.write("spec.yaml", SPEC)
        project.write_rows([{"number": number} for number in range(ROWS)])
        for _ in range(KILLS):
            kill_at_work(project, luck)
            assert not (tmp_path / "out/labels.jsonl").exists()
        project.gptflow("run", "spec.yaml")
        asked = Counter(entry.request for entry in project.requests)
        rows = project.output()
    assert [row["number"] for row in rows] == list(range(ROWS))
    assert [row["label"] for row in rows] == [f"Label review {number}." for number in range(ROWS)]
    assert len(asked) == 2 * ROWS
    assert sum(asked.values()) - len(asked) <= KILLS * CONCURRENCY
    assert "nothing to do" in project.gptflow("run", "spec.yaml")
