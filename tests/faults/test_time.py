"""Clocks that are set, processes that are stopped, and machines that sleep.

The clock of the machine cannot be set from a test: a launcher replaces `time.time` and
`time.time_ns` in the child process before gptflow is imported, and sets them an hour off when a
signal comes. A stop of some seconds stands for a sleep of minutes; what a sleep does to rests is
tested with a clock that is passed in.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gptflow.engine.clock import Clock, asleep_s
from gptflow.engine.config import KeyEntry
from gptflow.engine.dispatch import LONGEST_ALARM_S, Dispatcher
from gptflow.engine.keys import KeyPool, Lease, Wait
from gptflow.engine.limit_headers import LimitReader
from gptflow.engine.limits import parse_wait
from gptflow.engine.outage import Absence, Outage
from gptflow.engine.secret import Secret
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.errors import RunStopped
from gptflow.mock.log import LogEntry
from gptflow.mock.scenario import Scenario
from gptflow.mock.server import MockServer
from tests.faults.mock_process import mock_process
from tests.project import Project

ROWS = 120
SET_AT = 30
"""Requests until the clock is set."""
SPEC = """
name: reviews
source: {path: reviews.jsonl}
model: {name: m-1, temperature: 0}
steps: [{name: label, prompt: "Row {{ number }}.", extract: {label: text}}]
parallelism: {concurrency: 8}
limits: {timeout_s: 2, attempts: 3}
output: {path: out/labels.jsonl}
"""
LAUNCHER = """
import runpy, signal, sys, time
wall, wall_ns, hours, set_s = time.time, time.time_ns, int(sys.argv[1]), [0]
signal.signal(signal.SIGUSR1, lambda *_: set_s.append(hours * 3600))
time.time = lambda: wall() + set_s[-1]
time.time_ns = lambda: wall_ns() + set_s[-1] * 10**9
sys.argv = ["gptflow", "run", "spec.yaml", "--json"]
runpy.run_module("gptflow", run_name="__main__")
"""
A, B = "sk-0123456789-000a", "sk-0123456789-000b"
HOUR_S, TEN_MINUTES_S = 3600.0, 600.0
SENT_AT = "Sun, 06 Nov 1994 08:49:37 GMT"
SENT_AT_S = 784_111_777.0


def project_at(folder: Path, base_url: str) -> Project:
    project = Project(folder, base_url)
    project.write("spec.yaml", SPEC)
    project.write_rows([{"number": number} for number in range(ROWS)])
    project.write_config(A, B)
    return project


def assert_whole(project: Project, users: Iterable[str], *, asked_again: int) -> None:
    """`users`: the questions that were answered."""
    rows = project.output()
    assert [row["number"] for row in rows] == list(range(ROWS))
    assert all(row["label"] == f"Row {row['number']}." for row in rows)
    served = Counter(users)
    assert sum(served.values()) - len(served) <= asked_again


LIMITED = {"rpm": 3000, "burst": 0.5, "headers": "anthropic"}
DATES = {
    "latency": "30ms",
    "keys": {A: LIMITED, B: LIMITED},
    "failures": [{"name": "rate_limit_date", "after": 60, "first": 2, "retry_after": "1s"}],
}
"""Both kinds of dates come: in Retry-After, and in the limits of each answer."""


@contextmanager
def running(folder: Path, hours: int) -> Iterator[tuple[Project, subprocess.Popen[str]]]:
    """A run whose clock is set so many hours off, once it has asked a few rows."""
    folder.mkdir()
    asked = threading.Event()
    requests: list[LogEntry] = []

    def note(entry: LogEntry) -> None:
        requests.append(entry)
        if len(requests) == SET_AT:
            asked.set()

    with MockServer(Scenario.model_validate(DATES), on_request=note) as server:
        project = project_at(folder, server.base_url)
        project.requests = requests
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(hours)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        setting = threading.Thread(target=set_clock, args=(asked, process))
        setting.start()
        try:
            yield project, process
        finally:
            setting.join()
            process.kill()


def set_clock(asked: threading.Event, process: subprocess.Popen[str]) -> None:
    if asked.wait(40):
        process.send_signal(signal.SIGUSR1)


def test_a_clock_that_is_set_while_a_run_works_changes_nothing(tmp_path: Path) -> None:
    """One is set back and one forward, side by side."""
    with running(tmp_path / "back", -1) as back, running(tmp_path / "forward", 1) as forward:
        for project, process in (back, forward):
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, out + err
            users = (str(entry.user) for entry in project.requests if entry.status == 200)
            assert_whole(project, users, asked_again=0)
            failures = [entry.failure for entry in project.requests]
            assert failures.index("rate_limit_date") >= SET_AT
            assert 0 < json.loads(out)["wall_s"] < HOUR_S / 2


def test_a_run_that_was_stopped_goes_on_without_a_burst_and_without_a_loss(tmp_path: Path) -> None:
    """Its connections are dead by then, as after a night in a bag."""
    limited = {"rpm": 1800, "burst": 0.2}
    with mock_process(tmp_path, {"latency": "0.2s", "keys": {A: limited, B: limited}}) as mock:
        project = project_at(tmp_path, mock.base_url)
        process = project.start("run", "spec.yaml")
        deadline_s = time.monotonic() + 20
        while len(mock.log()) < 40 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        mock.kill()
        mock.start()
        time.sleep(max(0.0, stopped_s + 2.5 - time.monotonic()))  # longer than a call may take
        before = len(mock.log())
        os.kill(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=60)

        assert process.returncode == 0, out + err
        mock.stop()
        users = (line["user"] for line in mock.log() if line["status"] == 200)
        assert_whole(project, users, asked_again=8)
        refused = sum(line["status"] == 429 for line in mock.log()[before:])
    assert f"done {ROWS}, failed 0" in out
    assert refused <= 0.1 * ROWS


class Machine:
    """A clock that stands still while the machine sleeps, as Linux's does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asleep_s = 0.0
        self.clock = Clock(
            now=lambda: self.now, asleep=lambda: self.asleep_s, sleep=self.sleep, random=lambda: 0.5
        )

    async def sleep(self, delay_s: float) -> None:
        until = self.now + delay_s
        for _ in range(10):
            await asyncio.sleep(0)
        self.now = max(self.now, until)


def refused(wait_s: float) -> Verdict:
    return Verdict(VerdictKind.REST, "Too many requests", status=429, wait_s=wait_s)


def test_a_rest_goes_by_while_the_machine_sleeps() -> None:
    machine = Machine()
    pool = KeyPool([KeyEntry("a", Secret(A)), KeyEntry("b", Secret(B))])
    line = Dispatcher(pool, machine.clock, 9, "config.json")

    async def steps() -> float:
        for _ in range(2):
            line.settle(await line.lease("m-1"), refused(20 * 60))
        waiting = asyncio.ensure_future(line.lease("m-1"))
        await asyncio.sleep(0)
        machine.asleep_s += TEN_MINUTES_S
        await asyncio.wait_for(waiting, 5)
        line.close()
        return machine.now

    assert TEN_MINUTES_S <= asyncio.run(steps()) <= TEN_MINUTES_S + LONGEST_ALARM_S


def test_a_limit_fills_while_the_machine_sleeps_but_not_over_its_edge() -> None:
    pool = KeyPool([KeyEntry("a", Secret(A))])
    first = pool.take(0.0, "m-1")
    assert isinstance(first, Lease)
    told = {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "9"}
    pool.settle(first, 0.1, None, headers=told)

    def taken() -> int:
        count = 0
        while isinstance(pool.take(0.1, "m-1"), Lease):
            count += 1
        return count

    assert taken() > 3
    assert isinstance(pool.take(0.1, "m-1"), Wait)
    pool.slept(TEN_MINUTES_S)
    assert 3 < taken() <= 10


def test_a_date_is_compared_with_the_clock_of_who_named_it() -> None:
    headers = {"date": SENT_AT, "retry-after": "Sun, 06 Nov 1994 08:49:57 GMT"}
    for wrong_s in (-HOUR_S, 0.0, HOUR_S):
        assert parse_wait(headers, "", SENT_AT_S + wrong_s) == 20
    del headers["date"]
    assert parse_wait(headers, "", SENT_AT_S) == 20

    told = {
        "date": SENT_AT,
        "anthropic-ratelimit-requests-limit": "600",
        "anthropic-ratelimit-requests-remaining": "10",
        "anthropic-ratelimit-requests-reset": "1994-11-06T08:50:07Z",
    }
    [limit] = LimitReader().read(told, 0.0, lambda: SENT_AT_S + HOUR_S)
    assert limit.reset_s == 30


def test_an_outage_is_tried_once_more_by_a_run_that_was_stopped_meanwhile() -> None:
    machine = Machine()
    stops = iter([0.0, HOUR_S])

    async def sleep(delay_s: float) -> None:
        await machine.sleep(delay_s + next(stops, 0.0))

    clock = Clock(now=lambda: machine.now, sleep=sleep)
    outage = Outage(clock, lambda _: None, longest_s=600)

    async def steps() -> None:
        outage.answered()
        for number in range(3):
            absence = Absence("a", number, "refused", reached=False, is_unavailable=False)
            outage.failed(absence, active=3, in_service=lambda: frozenset({"a"}))
        held = [asyncio.ensure_future(outage.hold()) for _ in range(3)]
        done, _ = await asyncio.wait(held[:2])
        assert not any(turn.exception() for turn in done)
        assert machine.now > HOUR_S
        with pytest.raises(RunStopped, match="no server has answered"):
            await asyncio.gather(*held, *(outage.hold() for _ in range(99)))

    asyncio.run(asyncio.wait_for(steps(), 10))


def test_a_machine_that_never_slept_has_missed_nothing() -> None:
    before_s, began_s = least_s(), time.monotonic()
    time.sleep(0.1)
    assert abs(least_s() - before_s) < (time.monotonic() - began_s) / 2


def least_s() -> float:
    """Of a few looks, as this process may be put aside between the two clocks of one."""
    return min(asleep_s() for _ in range(100))
