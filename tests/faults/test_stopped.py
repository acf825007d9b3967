"""A process that is stopped for longer than its calls may take: what it lost by it is not charged.

The answers came meanwhile, into its sockets; when it goes on, its deadlines are over.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.mock_process import mock_process
from tests.project import Project

ROWS, CONCURRENCY = 24, 8
SPEC = f"""
name: reviews
source: {{path: reviews.jsonl}}
model: {{name: m-1, temperature: 0}}
steps: [{{name: label, prompt: "Row {{{{ number }}}}.", extract: {{label: text}}}}]
parallelism: {{concurrency: {CONCURRENCY}}}
limits: {{timeout_s: 1, attempts: 1}}
output: {{path: out/labels.jsonl}}
"""


def test_a_run_that_was_stopped_for_longer_than_a_call_may_take_loses_no_row(
    tmp_path: Path,
) -> None:
    with mock_process(tmp_path, {"latency": "0.3s"}) as mock:
        project = Project(tmp_path, mock.base_url)
        project.write("spec.yaml", SPEC)
        project.write_rows([{"number": number} for number in range(ROWS)])
        project.write_config("sk-0123456789-000a")
        process = project.start("run", "spec.yaml")
        until_s = time.monotonic() + 20
        while not mock.log() and time.monotonic() < until_s:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(2.5)  # the deadline, the second by which it is late, and some
        os.kill(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=60)

        assert process.returncode == 0, out + err
        assert len(mock.log()) > ROWS  # else no deadline went by, and this tests nothing
    assert f"done {ROWS}, failed 0" in out
    assert [row["number"] for row in project.output()] == list(range(ROWS))
