"""Clocks that are set, processes that are stopped, and machines that sleep.

The clock of the machine cannot be set from a test: a launcher replaces `time.time` and
`time.time_ns` in the child process before gptflow is imported, and sets them an hour off while the
run works. A stop of some seconds stands for a sleep of minutes; what a sleep does to rests is
tested with a clock that is passed in.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
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
from tests.faults.mock_process import MockProcess, mock_process
from tests.project import Project

ROWS = 120
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
import runpy, sys, time
wall, wall_ns, now = time.time, time.time_ns, time.monotonic
since, hour = now() + 1.0, int(sys.argv[1]) * 3600
time.time = lambda: wall() + (hour if now() >= since else 0)
time.time_ns = lambda: wall_ns() + (hour * 10**9 if now() >= since else 0)
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


def assert_whole(project: Project, mock: MockProcess, *, asked_again: int) -> None:
    rows = project.output()
    assert [row["number"] for row in rows] == list(range(ROWS))
    assert all(row["label"] == f"Row {row['number']}." for row in rows)
    served = Counter(line["user"] for line in mock.log() if line["status"] == 200)
    assert sum(served.values()) - len(served) <= asked_again


@pytest.mark.parametrize("hours", [-1, 1], ids=["back", "forward"])
def test_a_clock_that_is_set_while_a_run_works_changes_nothing(tmp_path: Path, hours: int) -> None:
    """Both kinds of dates come: in Retry-After, and in the limits of each answer."""
    limited = {"rpm": 3000, "burst": 0.5, "headers": "anthropic"}
    refused = {"name": "rate_limit_date", "share": 0.02}
    scenario = {"latency": "30ms", "keys": {A: limited, B: limited}, "failures": [refused]}
    with mock_process(tmp_path, scenario) as mock:
        project = project_at(tmp_path, mock.base_url)
        process = subprocess.run(
            [sys.executable, "-c", LAUNCHER, str(hours)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        assert_whole(project, mock, asked_again=0)
        assert any(line["failure"] == "rate_limit_date" for line in mock.log())
    assert 1.0 < json.loads(process.stdout)["wall_s"] < 60


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
        mock.kill()
        mock.start()
        time.sleep(2.5)  # longer than the deadline of a call
        before = len(mock.log())
        os.kill(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=60)

        assert process.returncode == 0, out + err
        assert_whole(project, mock, asked_again=8)
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
    assert asleep_s() >= -0.01
