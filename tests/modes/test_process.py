"""Worker processes that die, and runs that do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.project import Project, serving

ROWS = 200
IN_FLIGHT = 16
SPEC = f"""
name: reviews
source: {{path: reviews.jsonl, id: number}}
model: {{name: gpt-4o-mini, temperature: 0}}
steps:
  - name: label
    prompt: "Label review {{{{ number }}}}."
    extract: {{label: text}}
  - name: again
    prompt: "Once more."
    extract: {{again: text}}
parallelism: {{mode: process, workers: 2, concurrency: {IN_FLIGHT}}}
output: {{path: out/labels.jsonl}}
"""
TAIL = SPEC[SPEC.index("parallelism:") :]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with serving(tmp_path, {"latency": 0.1, "reply": {"echo": True}}) as made:
        made.write("spec.yaml", SPEC)
        made.write_rows([{"number": number} for number in range(ROWS)])
        yield made


def workers_of(pid: int) -> list[int]:
    """The worker processes of a run."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(project: Project, requests: int) -> None:
    deadline = time.monotonic() + 60
    while len(project.requests) < requests:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def killer(run: int, project: Project, kills: list[float]) -> Iterator[None]:
    """Kills one worker after the other, each when some rows more have been asked."""
    over = threading.Event()

    def kill() -> None:
        turn = 0
        while not over.wait(1.0):
            pids = workers_of(run)
            if len(pids) == 2 and len(project.requests) > 60 * turn:
                os.kill(pids[turn % 2], signal.SIGKILL)
                kills.append(time.time())
                turn += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_worker_that_is_killed_costs_no_more_than_what_it_had_in_flight(
    project: Project,
) -> None:
    run = project.start("run", "spec.yaml", "-q")
    kills: list[float] = []
    with killer(run.pid, project, kills):
        out, err = run.communicate(timeout=100)
    assert run.returncode == 0, out + err
    assert kills
    assert [row["number"] for row in project.output()] == list(range(ROWS))
    asked = Counter(entry.request for entry in project.requests)
    again = sum(asked.values()) - len(asked)
    assert len(asked) == 2 * ROWS
    assert again <= IN_FLIGHT * len(kills)
    assert "was killed by SIGKILL: another one takes its place" in err


def test_files_that_are_edited_during_a_run_change_nothing_for_its_workers(
    project: Project,
) -> None:
    spec = SPEC.replace('"Label review {{ number }}."', "{file: label.j2}")
    spec = spec.replace("{label: text}", "{label: {schema: {file: label.json}}}")
    project.write("spec.yaml", f"templates: prompts\n{spec}")
    project.write("label.json", '{"type": "array"}')
    project.write("prompts/label.j2", "{% include 'label.' ~ 'part' %}")
    project.write("prompts/label.part", "[{{ number }}]")
    project.write_rows([{"number": number} for number in range(100)])
    run = project.start("run", "spec.yaml", "-q", "--workers", "1")
    wait_for(project, 20)
    for name in ("label.json", "prompts/label.j2"):
        project.write(name, "edited")
    (project.folder / "prompts/label.part").unlink()
    os.kill(workers_of(run.pid)[0], signal.SIGKILL)
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, out + err
    assert "another one takes its place" in err
    assert [row["label"] for row in project.output()] == [[number] for number in range(100)]


def test_a_worker_that_finds_other_python_code_says_which(project: Project) -> None:
    code = "def again(row):\n    return {'again': 'fine'}\n"
    project.write("again.py", code)
    hook = HOOK.replace("deadly:end", "again:again")
    project.write("spec.yaml", SPEC.partition("  - name: again")[0] + hook + TAIL)
    options = ("-q", "--allow-python", "--python-path", ".")
    run = project.start("run", "spec.yaml", "--workers", "1", *options)
    wait_for(project, 20)
    project.write("again.py", code + "# edited")
    os.kill(workers_of(run.pid)[0], signal.SIGKILL)
    out, err = run.communicate(timeout=100)
    assert run.returncode != 0, out + err
    assert "other Python code than the run has read: again:again (" in err
    assert "Traceback" not in err


def test_workers_end_with_a_run_that_is_killed(project: Project) -> None:
    run = project.start("run", "spec.yaml", "-q")
    wait_for(project, 20)
    workers = workers_of(run.pid)
    assert len(workers) == 2
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 2
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    asked = len(project.requests)
    assert not any(map(is_alive, workers))
    assert asked < 2 * ROWS
    told = project.run_json("spec.yaml", "-q")
    assert told["done"] == ROWS


def test_a_row_that_kills_its_workers_fails(project: Project) -> None:
    project.write("deadly.py", DEADLY)
    project.write(
        "spec.yaml",
        SPEC.replace(
            '  - name: again\n    prompt: "Once more."\n    extract: {again: text}\n', HOOK
        ),
    )
    project.write_rows([{"number": number} for number in range(40)])
    told = project.run_json(
        "spec.yaml",
        "-q",
        "--allow-python",
        "--python-path",
        ".",
        code=1,
    )
    assert (told["done"], told["failed"]) == (39, 1)
    (failed,) = project.output("out/labels.failed.jsonl")
    assert failed["row"] == {"number": 7}
    assert failed["error"]["kind"] == "worker"
    assert "SIGKILL" in failed["error"]["message"]


DEADLY = """
import os, signal

def end(row):
    if row["number"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"again": "fine"}
"""
HOOK = """\
  - name: again
    python: deadly:end
    fields: [again]
"""


def test_a_signal_lets_the_calls_in_flight_of_all_workers_come_back(project: Project) -> None:
    run = project.start("run", "spec.yaml", "-q")
    wait_for(project, 50)
    workers = workers_of(run.pid)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, out + err
    assert "Traceback" not in err
    assert not any(map(is_alive, workers))
    project.run_json("spec.yaml", "-q")
    asked = Counter(entry.request for entry in project.requests)
    assert max(asked.values()) == 1


def test_a_signal_to_a_whole_job_ends_no_worker_before_its_calls_are_back(
    project: Project,
) -> None:
    run = project.start("run", "spec.yaml", "-q")
    wait_for(project, 50)
    for pid in (*workers_of(run.pid), run.pid):  # as systemd and Slurm send it
        os.kill(pid, signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM, out + err
    assert "Traceback" not in err
    assert "takes its place" not in err
    project.run_json("spec.yaml", "-q")
    asked = Counter(entry.request for entry in project.requests)
    assert max(asked.values()) == 1


HAPPENS = """
import subprocess, sys

def end(row):
    if row["number"] == 0:
        print("said by a hook")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        child.terminate()
        print("it ended with", child.wait())
    return {"again": "fine"}
"""


@pytest.mark.parametrize("mode", ["async", "thread", "process"])
def test_what_a_hook_prints_goes_to_stderr_and_what_it_starts_heeds_signals(
    project: Project, mode: str
) -> None:
    project.write("deadly.py", HAPPENS)
    project.write("spec.yaml", SPEC.partition("  - name: again")[0] + HOOK + TAIL)
    project.write_rows([{"number": number} for number in range(4)])
    options = ("--json", "--allow-python", "--python-path", ".", "--mode", mode)
    run = project.start("run", "spec.yaml", "-q", *options)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err
    assert json.loads(out)["done"] == 4
    assert "said by a hook\n" in err
    assert f"it ended with -{signal.SIGTERM:d}\n" in err


def test_a_worker_that_hangs_is_replaced(project: Project) -> None:
    project.write("spec.yaml", SPEC + "limits: {timeout_s: 3}\n")
    run = project.start("run", "spec.yaml", "-q")
    wait_for(project, 40)
    stopped = workers_of(run.pid)[0]
    os.kill(stopped, signal.SIGSTOP)
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, out + err
    assert "hangs: another one takes its place" in err
    assert len(project.output()) == ROWS
    assert not is_alive(stopped)
