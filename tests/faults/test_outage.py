"""Servers that go away under a run, and come back: no row fails for it, and nothing is paid twice.

The server is a process of its own, which is killed and started again on the same port.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.mock_process import MockProcess, mock_process
from tests.lark_server import LarkServer
from tests.project import Project

ROWS, CONCURRENCY = 300, 4
FEW = 60
"""Rows of a run under which no server is killed."""
SPEC = f"""
name: reviews
source: {{path: reviews.jsonl}}
model: {{name: m-1, temperature: 0}}
steps: [{{name: label, prompt: "Row {{{{ number }}}}.", extract: {{label: text}}}}]
parallelism: {{concurrency: {CONCURRENCY}}}
limits: {{attempts: 2, outage_s: %g}}
output: {{path: out/labels.jsonl}}
"""
LARK = """
notify: {lark: {hook: "%s"}}
"""
STEADY: dict[str, Any] = {"latency": "50ms"}
QUICK: dict[str, Any] = {}
"""The server's second life: what is left is soon done."""


def project_at(folder: Path, *base_urls: str, outage_s: float = 60.0, rows: int = ROWS) -> Project:
    """A folder with a run to do, and a key for each URL."""
    project = Project(folder, base_urls[0])
    project.write("spec.yaml", SPEC % outage_s)
    project.write_rows([{"number": number} for number in range(rows)])
    keys = [
        {"name": f"k{n}", "api_key": f"sk-0123456789-000{n}", "base_url": base_url}
        for n, base_url in enumerate(base_urls)
    ]
    project.write("config.json", json.dumps({"key_list": keys}))
    return project


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something that must come while the program runs."""
    deadline_s = time.monotonic() + 40
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)


def kill_at_work(mock: MockProcess, process: subprocess.Popen[str]) -> None:
    """Kills the server once it has answered some of the rows."""
    until(lambda: len(mock.log()) >= CONCURRENCY * 3, process)
    mock.kill()
    mock.scenario = QUICK


def assert_whole(project: Project, mock: MockProcess, lost: int = CONCURRENCY) -> None:
    """Each row is done, once and in order; asked twice at most what was in flight at a kill."""
    mock.stop()
    rows = project.output()
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert all(row["label"] == f"Row {row['number']}." for row in rows)
    asked = Counter(line["user"] for line in mock.log() if line["status"] == 200)
    assert sum(asked.values()) - len(asked) <= lost


def test_a_run_holds_while_its_server_is_gone_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with mock_process(tmp_path, STEADY) as mock, LarkServer() as lark:
        project = project_at(tmp_path, mock.base_url)
        project.write("spec.yaml", SPEC % 60 + LARK % lark.hook)
        process = project.start("run", "spec.yaml")
        kill_at_work(mock, process)
        until(lambda: any("no server answers" in told.text for told in lark.received), process)
        mock.start()
        out, err = process.communicate(timeout=60)

        assert process.returncode == 0, out + err
        assert len(project.output()) == ROWS
        assert_whole(project, mock)
    assert err.count("no server answers") == 1
    assert err.count("the server answers again") == 1
    told = [message.text for message in lark.received]
    assert sum("no server answers" in text for text in told) == 1
    assert sum("the server answers again" in text for text in told) == 1


def test_a_run_stops_when_its_server_stays_away_and_the_next_one_finishes(tmp_path: Path) -> None:
    with mock_process(tmp_path, STEADY) as mock:
        project = project_at(tmp_path, mock.base_url, outage_s=1.5)
        process = project.start("run", "spec.yaml")
        kill_at_work(mock, process)
        out, err = process.communicate(timeout=60)

        assert process.returncode == 3, out + err
        assert "no server has answered for 2 s" in out + err
        assert "run the same command again" in out + err
        assert not (tmp_path / "out/labels.jsonl").exists()
        mock.start()
        assert f"done {ROWS}" in project.gptflow("run", "spec.yaml")
        assert_whole(project, mock)


def test_a_server_that_still_loads_its_model_is_waited_for_by_one_call(tmp_path: Path) -> None:
    busy = {"name": "loading_503", "first": CONCURRENCY + 1}
    with mock_process(tmp_path, {**STEADY, "failures": [busy]}) as mock:
        project = project_at(tmp_path, mock.base_url, mock.base_url, rows=FEW)

        assert f"done {FEW}" in project.gptflow("run", "spec.yaml")
        assert_whole(project, mock, lost=0)
        refused = [line for line in mock.log() if line["failure"]]
        assert len(mock.log()) == FEW + len(refused)
    assert refused[-1]["time"] - refused[-2]["time"] > 0.5


def test_a_run_that_begins_before_its_server_says_so_and_can_be_run_again(tmp_path: Path) -> None:
    with mock_process(tmp_path, STEADY) as mock:
        mock.kill()
        project = project_at(tmp_path, mock.base_url, rows=FEW)
        said = project.gptflow("run", "spec.yaml", code=3)

        assert "cannot connect to" in said
        mock.start()
        assert f"done {FEW}" in project.gptflow("run", "spec.yaml")
        assert_whole(project, mock, lost=0)


def test_the_host_of_one_key_is_gone_and_the_rows_go_over_the_other(tmp_path: Path) -> None:
    """The other one is at its limit, so that each call finds the dead one free."""
    slow: dict[str, Any] = {"rpm": 3000, "burst": 0.1}
    keys = {"sk-0123456789-0001": slow}
    with mock_process(tmp_path, {"keys": keys}) as mock, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        project = project_at(tmp_path, dead, mock.base_url, rows=FEW)

        assert f"done {FEW}" in project.gptflow("run", "spec.yaml")
        assert_whole(project, mock, lost=0)
