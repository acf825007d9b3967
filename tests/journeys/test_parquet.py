"""From Parquet to Parquet, as a user types it."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.project import Project

SPEC = """
name: reviews
source: {path: reviews/, id: id}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - name: label
    prompt: "Label {{ text }}, review {{ id }}."
    extract:
      label: {choice: [positive, negative]}
      words: {regex: "\\\\w+", all: true}
output: {path: out/labels.parquet}
parallelism: {concurrency: 4}
"""

ROWS = [{"id": number, "text": "good" if number % 3 else "bad"} for number in range(90)]


def write_source(folder: Path) -> None:
    for part in range(3):
        path = folder / f"reviews/part-{part}.parquet"
        path.parent.mkdir(exist_ok=True)
        table = pa.Table.from_pylist(ROWS[part * 30 : part * 30 + 30])
        pq.write_table(table, path, row_group_size=7)
    (folder / "reviews/_SUCCESS").touch()


def interrupt(project: Project, after: int) -> None:
    process = project.start("run", "spec.yaml", "-q")
    deadline_s = time.monotonic() + 60
    while len(project.requests) < after and process.poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    process.terminate()
    said = process.communicate()
    assert process.returncode == 143, said


def labels(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("project", [{"latency": "20ms"}], indirect=True)
def test_a_run_that_was_interrupted_asks_each_row_once(project: Project) -> None:
    write_source(project.folder)
    project.write("spec.yaml", SPEC)
    output = project.folder / "out/labels.parquet"

    interrupt(project, after=40)
    assert not output.exists()
    project.gptflow("run", "spec.yaml", "-q")

    rows = labels(output)
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert [row["label"] for row in rows] == [
        "positive" if n % 3 else "negative" for n in range(90)
    ]
    assert rows[0]["words"] == ["It", "is", "negative"]
    assert len(project.requests) <= 90 + 4
    assert sorted(path.name for path in output.parent.iterdir()) == ["labels.parquet"]


def test_a_run_is_exported_to_parquet(project: Project) -> None:
    project.gptflow("run", "spec.yaml", "-q")
    project.gptflow("export", "reviews", "-o", "labels.parquet")
    command = [sys.executable, "-m", "gptflow", "export", "reviews", "--format", "parquet"]
    piped = subprocess.run(command, cwd=project.folder, capture_output=True, check=True).stdout

    assert labels(project.folder / "labels.parquet")[1] == {
        "id": 2,
        "text": "bad",
        "label": "negative",
        "apology": "We are sorry.",
    }
    assert pq.read_table(io.BytesIO(piped)) == pq.read_table(project.folder / "labels.parquet")


def test_a_missing_package_is_a_problem_of_the_spec(project: Project) -> None:
    write_source(project.folder)
    project.write("spec.yaml", SPEC)
    project.write("without/sitecustomize.py", "import sys\nsys.modules['pyarrow'] = None\n")
    environment = {"PYTHONPATH": str(project.folder / "without")}

    for command in ("validate", "run"):
        said = project.gptflow(command, "spec.yaml", code=2, env=environment)
        assert "spec.yaml:3:16: Parquet needs a package that is not installed" in said
        assert "spec.yaml:11:16: Parquet needs a package that is not installed" in said
        assert said.count('Hint: pip install "gptflow[parquet]"') == 2
    assert project.asked() == []
    assert not (project.folder / ".gptflow").exists()


def test_a_missing_package_is_told_where_a_run_is_exported(project: Project) -> None:
    project.gptflow("run", "spec.yaml", "-q")
    project.write("without/sitecustomize.py", "import sys\nsys.modules['pyarrow'] = None\n")
    environment = {"PYTHONPATH": str(project.folder / "without")}

    said = project.gptflow("export", "reviews", "-o", "x.parquet", code=2, env=environment)

    assert said.startswith('Parquet needs a package that is not installed\nHint: pip install "gpt')
    assert list(project.folder.glob("x.parquet*")) == []


def test_files_that_became_others_stop_the_run_before_a_row_is_asked(project: Project) -> None:
    write_source(project.folder)
    project.write("spec.yaml", SPEC)
    part = project.folder / "reviews/part-2.parquet"
    part.write_bytes(part.read_bytes()[:-10])

    said = project.gptflow("run", "spec.yaml", code=2)

    assert "reviews/part-2.parquet: the Parquet file is cut off: its end is missing\nHint: " in said
    assert project.asked() == []
