"""The examples and the starter run as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "label.yaml": ("out/labels.simulated.jsonl", 64),
    "recipes.yaml": ("out/recipes.simulated.jsonl", 20),
}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("out")
    return Path(shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines", ignore=ignored))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_finishes_every_row_in_the_simulator(examples: Path, name: str) -> None:
    output, rows = EXAMPLES[name]

    done = run(examples, "-m", "gptflow", "run", name, "--mock")

    assert done.returncode == 0, done.stderr
    assert len((examples / output).read_text("utf-8").splitlines()) == rows


def test_the_starter_finishes_every_row_in_the_simulator(tmp_path: Path) -> None:
    made = run(tmp_path, "-m", "gptflow", "init", "demo")
    done = run(tmp_path / "demo", "-m", "gptflow", "run", "pipeline.yaml", "--mock")

    assert (made.returncode, done.returncode) == (0, 0), made.stderr + done.stderr
    lines = (tmp_path / "demo/out/messages.simulated.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["message_id"] for line in lines] == [f"m{n}" for n in range(1, 9)]


def test_every_review_has_a_gold_label_that_the_spec_knows() -> None:
    lines = (ROOT / "pipelines/data/reviews.jsonl").read_text("utf-8").splitlines()
    reviews = [json.loads(line) for line in lines]

    assert len({review["review_id"] for review in reviews}) == len(reviews) >= 60
    assert {review["sentiment"] for review in reviews} == {"positive", "negative", "neutral"}


def labelled(label: str, gold: str) -> str:
    row = {"review_id": "r1", "stars": 5, "text": "Good.", "apology": None}
    return json.dumps({**row, "label": label, "sentiment": gold})


def test_the_table_ends_with_how_many_labels_are_right(tmp_path: Path) -> None:
    lines = [labelled("positive", "positive"), labelled("negative", "positive")]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines), "utf-8")

    shown = run(tmp_path, str(ROOT / "pipelines/show.py"), "labels.jsonl")

    assert "1 of 2 labels are right (50%)" in shown.stdout


def test_the_table_says_what_to_run_when_there_is_no_output_yet(tmp_path: Path) -> None:
    shown = run(tmp_path, str(ROOT / "pipelines/show.py"))

    assert shown.returncode == 1
    assert "Hint: gptflow run pipelines/label.yaml --local" in shown.stderr
