"""Going on with a long run: what it takes must not grow with the rows that are done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptflow.records import RowResult, RowStatus
from gptflow.runner.begin import begin
from gptflow.runner.loop import run_coroutine
from gptflow.runner.prepare import prepare
from gptflow.runner.server import ServerChoice
from gptflow.store.store import Store
from tests.project import Project, serving

PENDING = 10
GROWTH_MB = 15

LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A small process: Linux counts the memory of the one that starts it in a process's peak."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, {}) as made:
        yield made


def leave_ten_pending(count: int) -> None:
    """Begins a run, and ends all of its rows but the last ten."""
    fields = b'{"label":"positive","apology":null}'

    async def end_rows(store: Store, run_id: int) -> None:
        for row in store.reader.ledger(run_id, 0, count - PENDING):
            raw = b'{"id": %d, "text": "fine, %d"}' % (row[0], row[0])
            saved = store.save_result(run_id, RowResult(row[0], RowStatus.DONE, raw, fields))
        await saved

    prepared = prepare("spec.yaml", ServerChoice())
    with Store.open(prepared.store_path(None)) as store:
        run = begin(store, prepared, fresh=False, retry=None).run
        run_coroutine(end_rows(store, run.run_id))


def peak_mb(project: Project, *arguments: str) -> float:
    """The peak memory of a command, which must succeed."""
    process = subprocess.run(
        [sys.executable, "-c", LAUNCHER, "-m", "gptflow", *arguments],
        cwd=project.folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return float(process.stdout.splitlines()[-1])


def rows(first: int, last: int) -> list[dict[str, object]]:
    return [{"id": number, "text": f"fine, {number}"} for number in range(first, last)]


def test_going_on_with_fifty_thousand_rows_asks_those_that_are_left_in_no_more_memory(
    project: Project,
) -> None:
    peaks = {}
    for count in (5_000, 50_000):
        for path in project.folder.glob(".gptflow/*"):
            path.unlink()
        project.write_rows(rows(0, count))
        leave_ten_pending(count)
        gone_on_mb = peak_mb(project, "run", "spec.yaml", "--quiet")
        project.write_rows(rows(0, count + PENDING))
        appended_mb = peak_mb(project, "run", "spec.yaml", "--quiet")
        peaks[count] = (gone_on_mb, appended_mb)
        asked = [f"Label fine, {number} as" for number in range(count - PENDING, count + PENDING)]
        said = sorted(project.asked(), key=lambda text: int(text.split()[2]))
        assert [text.partition(" one of")[0] for text in said] == asked
        assert [row["id"] for row in project.output()] == list(range(count + PENDING))
    for few, many in zip(peaks[5_000], peaks[50_000], strict=True):
        assert many - few < GROWTH_MB, peaks
