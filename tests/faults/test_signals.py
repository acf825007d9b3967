"""Signals and lost terminals, at every step of a run: it ends well, and goes on the next time."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gptflow.runner.signals import ECHO_S
from tests.faults.crashes import CALLS, DONE, LAUNCHER, ROWS, Scene, staged

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    """`@pytest.mark.parametrize("scene", [{...}], indirect=True)` changes the scenario."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with staged(tmp_path, **getattr(request, "param", {})) as made:
        yield made


def ended(process: subprocess.Popen[str]) -> str:
    """What a process has said, in its time."""
    try:
        told = "".join(text or "" for text in process.communicate(timeout=40))
    finally:
        process.kill()
    assert "Traceback" not in told
    return told


@contextmanager
def killed_after(process: subprocess.Popen[str], most_s: float = 40) -> Iterator[None]:
    """Ends a process that hangs, so that whoever reads what it says comes to an end."""
    timer = threading.Timer(most_s, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something that must come while a process works."""
    deadline_s = time.monotonic() + 40
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.01)


def signal_until_it_ends(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """As somebody who presses again and again; one that comes too soon is taken for an echo."""
    time.sleep(2 * ECHO_S)
    for _ in range(20):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)  # a busy machine takes its time to end it
            return


# ------------------------------------------------------------------ during the calls


SLOW = [{"latency": "150ms"}]


@pytest.mark.parametrize("scene", SLOW, indirect=True)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice, as by a shell"])
def test_a_terminal_that_goes_lets_the_calls_in_flight_come_back(scene: Scene, times: int) -> None:
    process = scene.run()

    def hang_up() -> None:
        for _ in range(times):
            process.send_signal(signal.SIGHUP)

    scene.call_at(9, hang_up)
    told = ended(process)
    assert process.returncode == 129
    assert "next: gptflow run spec.yaml   # goes on" in told
    assert all(entry.answered for entry in scene.requests)
    scene.look()
    assert len(scene.stored) == len(scene.requests) < CALLS
    scene.finish()
    assert scene.asked_again() == 0


def test_a_run_under_nohup_does_not_hear_that_the_terminal_goes(scene: Scene) -> None:
    process = scene.run(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    scene.call_at(9, lambda: process.send_signal(signal.SIGHUP))
    ended(process)
    assert process.returncode == 1
    assert scene.rows() == DONE


@pytest.mark.parametrize("scene", [{"latency": "20s"}], indirect=True)
def test_a_second_signal_waits_for_no_call(scene: Scene) -> None:
    process = scene.run()
    arrived = threading.Event()
    scene.call_at(1, arrived.set)
    assert arrived.wait(20)
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    with killed_after(process):
        assert any(line.startswith("stopping: waiting") for line in process.stderr)
    signal_until_it_ends(process, signal.SIGINT)
    ended(process)
    assert process.returncode == 130
    assert time.monotonic() - began_s < 15


WAITING = {
    "all keys are spent": {"failures": [{"name": "insufficient_quota", "after": 9}]},
    "no server answers": {"latency": "0.2s", "outages": [{"at": "1s", "lasts": "60s"}]},
}


@pytest.mark.parametrize("scene", WAITING.values(), ids=WAITING, indirect=True)
def test_one_signal_ends_a_run_that_waits(scene: Scene) -> None:
    process = scene.run()
    assert process.stderr is not None
    with killed_after(process):
        for line in process.stderr:
            if line.startswith(("waiting:", "no server answers")):
                process.send_signal(signal.SIGINT)
    ended(process)
    assert process.returncode == 130
    scene.look()
    assert len(scene.stored) == sum(entry.status == 200 for entry in scene.requests)


# ------------------------------------------------------------------ before and after the calls


OUTSIDE = {
    "while the spec is read": "before gptflow.pipeline.compile:compile_plan",
    "while the ledger is written": "before gptflow.store.ledger:number_duplicates",
    "before the first call": "before gptflow.engine.engine:Engine.__aenter__",
    "after the last call": "before gptflow.engine.client:Client.aclose",
    "while the output is written": "before gptflow.runner.publish:Publication.commit",
    "between the two outputs": "before pathlib:Path.replace #2",
    "while the end is written down": "before gptflow.store.run:change_run",
    "while the store is closed": "before gptflow.store.store:_finish",
}


@pytest.mark.parametrize("place", OUTSIDE)
def test_a_signal_outside_of_the_calls_ends_a_run_well(scene: Scene, place: str) -> None:
    number = SIGNALS[list(OUTSIDE).index(place) % len(SIGNALS)]
    code, told = scene.signal_at(f"{number.name} {OUTSIDE[place]}")
    assert code == 128 + number
    assert "interrupted" in told
    asked = len(scene.requests)
    assert asked in (0, CALLS)
    scene.finish()
    assert len(scene.requests) == CALLS


STUBBORN = """
import os, signal, sys, time
from gptflow.runner.signals import raising_signals
with raising_signals():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), int(sys.argv[1]))  # an echo of the first
        print("ending", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_waits_for_no_ending(scene: Scene, number: signal.Signals) -> None:
    process = scene.start("-c", STUBBORN, str(int(number)))
    assert process.stdout is not None
    with killed_after(process):
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "ending\n"
        signal_until_it_ends(process, number)
    ended(process)
    assert process.returncode == 128 + number


# ------------------------------------------------------------------ readers and terminals that go


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("gptflow run spec.yaml 2>&1 | head -1", 1),
        ("gptflow run spec.yaml --json | head -c 1", 1),
        ("gptflow run spec.yaml -q >/dev/null; gptflow runs | head -1", 0),
    ],
)
def test_a_reader_that_leaves_changes_nothing(scene: Scene, command: str, code: int) -> None:
    program = f'gptflow() {{ "{sys.executable}" -m gptflow "$@"; }}; '
    process = scene.shell(f"{program} {command}; exit ${{PIPESTATUS[0]}}")
    told = ended(process)
    assert process.returncode == code, told
    assert "Error" not in told
    assert scene.rows() == DONE


RUN = ("-m", "gptflow", "run", "spec.yaml")


def on_a_terminal(
    scene: Scene, *command: str, leads: bool = False
) -> tuple[subprocess.Popen[str], int]:
    """A program whose streams are a terminal, and the other end of that.

    `leads`: it is told by a SIGHUP when the terminal goes.
    """
    controller, terminal = pty.openpty()

    def take() -> None:
        if leads:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    process = scene.start(
        *command,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=take,
        pass_fds=(terminal,),
    )
    os.close(terminal)
    return process, controller


def close_when_shown(process: subprocess.Popen[str], controller: int, pattern: bytes) -> None:
    """Reads a terminal to that text; one that nobody holds open any more raises OSError."""
    shown = b""
    with killed_after(process):
        while not re.search(pattern, shown):
            shown += os.read(controller, 4096)
    os.close(controller)


@pytest.mark.parametrize("scene", SLOW, indirect=True)
def test_a_terminal_that_is_closed_ends_a_run_well(scene: Scene) -> None:
    process, controller = on_a_terminal(scene, *RUN, leads=True)
    close_when_shown(process, controller, rb"[1-9]/40")
    assert process.wait(timeout=40) == 129
    scene.look()
    assert len(scene.stored) == len(scene.requests) < CALLS
    scene.finish()
    assert scene.asked_again() == 0


def test_a_run_that_is_not_told_goes_on_without_its_terminal(scene: Scene) -> None:
    process, controller = on_a_terminal(scene, *RUN)
    close_when_shown(process, controller, rb"40 rows")
    assert process.wait(timeout=40) == 1
    assert scene.rows() == DONE


def test_nobody_has_to_read_that_a_signal_came(scene: Scene) -> None:
    point = "SIGHUP before gptflow.pipeline.compile:compile_plan"
    process, controller = on_a_terminal(scene, str(LAUNCHER), point, *RUN[2:])
    os.close(controller)
    assert process.wait(timeout=40) == 129


def test_a_signal_does_not_wait_for_a_reader_who_takes_nothing(scene: Scene) -> None:
    long_rows = (json.dumps({"number": n, "text": "x" * 4_000}) + "\n" for n in range(ROWS))
    (scene.folder / "rows.jsonl").write_text("".join(long_rows))
    ended(scene.run())
    reading, writing = os.pipe()
    process = scene.start("-m", "gptflow", "export", "crash", stdout=writing)
    os.close(writing)
    waiting = bytearray(4)

    def is_full() -> bool:
        fcntl.ioctl(reading, termios.FIONREAD, waiting)
        return int.from_bytes(waiting, sys.byteorder) > 60_000

    until(is_full, process)
    process.send_signal(signal.SIGINT)
    ended(process)
    os.close(reading)
    assert process.returncode == 130
