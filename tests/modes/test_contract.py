"""What holds in every mode: the same rows, the same bytes, each question asked once."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.project import Project, serving

ROWS = 1000
MODES = ("async", "thread", "process", "batch")
SPEC = """
name: contract
source: {path: rows.jsonl, id: number}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - name: label
    prompt: "Label row {{ number }}, which is {{ text }}."
    extract: {label: {choice: [good, bad]}}
    on_invalid: {reask: 1}
  - name: apology
    when: label == 'bad'
    prompt: "Apologise to row {{ number }}."
    model: {temperature: 1}
    extract: {apology: text, words: {regex: '(\\w+)', all: true}}
parallelism: {concurrency: 40, workers: 2}
output: {path: out.jsonl}
"""
REPLIES = [
    {"match": r"^Label row \d+00,", "text": "Hm."},
    {"match": "^Label row .*odd", "text": "This is bad."},
    {"match": "^Label", "text": "This is good."},
    {"match": "^Apologise", "text": "Es tut uns für ewig leid."},
    {"match": "^Your reply cannot be used", "text": "Hm again."},
]


def is_failed(number: int) -> bool:
    return number > 0 and number % 100 == 0


FAILED = sum(map(is_failed, range(ROWS)))
CALLS = ROWS + FAILED + ROWS // 2
"""Each row's label, once more where it fits nothing, and an apology to every other row."""


def expected(number: int) -> dict[str, Any]:
    """A row of the output."""
    row: dict[str, Any] = {"number": number, "text": "odd" if number % 2 else "even"}
    if number % 2 == 0:
        return row | {"label": "good", "apology": None, "words": None}
    words = ["Es", "tut", "uns", "für", "ewig", "leid"]
    return row | {"label": "bad", "apology": "Es tut uns für ewig leid.", "words": words}


OUTPUT = "".join(
    json.dumps(expected(number), ensure_ascii=False, separators=(",", ":")) + "\n"
    for number in range(ROWS)
    if not is_failed(number)
)


@contextmanager
def staged(folder: Path, *, batch_s: float) -> Iterator[Project]:
    scenario = {"reply": REPLIES, "latency": 0.01, "batch": {"latency": batch_s}}
    with serving(folder, scenario) as made:
        made.write("spec.yaml", SPEC)
        rows = [{"number": n, "text": "odd" if n % 2 else "even"} for n in range(ROWS)]
        lines = (json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        made.write("rows.jsonl", "".join(lines))
        made.write_config("sk-first-1234567890", "sk-second-123456789")
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with staged(tmp_path, batch_s=0.2) as made:
        yield made


@pytest.fixture
def slow_batches(tmp_path: Path) -> Iterator[Project]:
    """Batches are at work for so long that the next command finds them so."""
    with staged(tmp_path, batch_s=6) as made:
        yield made


def asked(project: Project) -> int:
    """How many questions the server has answered, and bills, in whatever way.

    One by one none may be asked twice. Of a batch those lines count that were answered by the time
    of its end: the others of a batch that is called back are asked once more, and billed once.
    """
    digests = [entry.request for entry in project.requests if entry.path.endswith("completions")]
    assert len(set(digests)) == len(digests)
    return len(digests) + project.stats.batches["lines"]


def interrupted(project: Project, mode: str, calls: int) -> None:
    """Runs in a mode, and says Ctrl-C when so many more calls have been asked."""
    before = asked(project)
    process = project.start("run", "spec.yaml", "--mode", mode, "-q")
    try:
        deadline = time.monotonic() + 60
        while asked(project) < before + calls and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, out + err


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_bytes(project: Project, mode: str) -> None:
    told = project.run_json("spec.yaml", "--mode", mode, "-q", code=1)
    assert (told["done"], told["failed"], told["calls"]) == (ROWS - FAILED, FAILED, CALLS)
    assert (project.folder / "out.jsonl").read_text(encoding="utf-8") == OUTPUT
    failed = project.output("out.failed.jsonl")
    assert [row["row"]["number"] for row in failed] == list(filter(is_failed, range(ROWS)))
    assert {row["error"]["kind"] for row in failed} == {"invalid"}
    assert {row["reply"] for row in failed} == {"Hm again."}
    assert asked(project) == CALLS
    assert "nothing to do" in project.gptflow("run", "spec.yaml", "--mode", mode, code=1)
    assert asked(project) == CALLS


def test_a_run_goes_on_in_any_other_mode(slow_batches: Project) -> None:
    project = slow_batches
    for mode in MODES:
        interrupted(project, mode, calls=50 if mode == "batch" else 150)
    for mode in reversed(MODES):
        interrupted(project, mode, calls=50)
    told = project.run_json("spec.yaml", "-q", code=1)
    assert (told["done"], told["failed"]) == (ROWS - FAILED, FAILED)
    assert (project.folder / "out.jsonl").read_text(encoding="utf-8") == OUTPUT
    assert asked(project) == CALLS
