"""Making a batch where it is not known whether it was made, and where its queue has no room."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from gptflow.engine.clock import Clock
from gptflow.engine.config import KeyEntry
from gptflow.engine.secret import Secret
from gptflow.errors import RunStopped
from gptflow.runner.batch.apis import Apis
from gptflow.runner.batch.courier import SETTLE_S, Courier
from gptflow.runner.batch.flights import Flight
from gptflow.runner.batch.members import Members
from gptflow.runner.batch.spool import Spool
from gptflow.spec.parallelism import BatchSpec
from gptflow.store.batches import BatchCall, BatchDraft, BatchStatus
from gptflow.store.store import Store
from tests.runner.batch.conftest import ROWS, SPEC, Desk, done
from tests.store.conftest import draft, rows

LAUNCHER = Path(__file__).parents[2] / "faults" / "killed_at.py"
NUMBERS = range(ROWS)
TIMEOUT_S = 20.0
CREATE = ("POST", "/v1/batches")
Work = Callable[[Courier, Flight, Members], Awaitable[object]]


class Hours:
    """A clock whose hours pass at once."""

    def __init__(self, began_wall: float = 1.9e9) -> None:
        self.passed_s, self.began_wall = 0.0, began_wall

    async def sleep(self, wait_s: float) -> None:
        self.passed_s += wait_s
        await asyncio.sleep(0)

    def wall(self) -> float:
        return self.began_wall + self.passed_s

    def clock(self) -> Clock:
        return Clock(now=lambda: self.passed_s, sleep=self.sleep, random=lambda: 0.0)


def courier_on(desk: Desk, base_url: str, hours: Hours, work: Work) -> None:
    """Has a courier work on a batch of one call, by one key."""
    members = Members(
        [KeyEntry("a", Secret("sk-test-1234567890"), base_url)],
        None,
        lambda: hours.passed_s,
        lambda _: None,
    )

    async def do() -> None:
        with Store.open(desk.folder / "courier.db") as store:
            store.begin_run(draft(), rows("a"))
            spool = Spool.beside(desk.folder / "courier.db", BatchSpec())
            batch = BatchDraft(
                run_id=1,
                token="t",
                model="gpt-4o-mini",
                endpoint="chat/completions",
                calls=1,
                tokens=3,
                size_bytes=9,
                digest="",
            )
            flight = Flight(store.batches.begin(batch, [BatchCall(b"k" * 16, "label", 3)]))
            spool.make_folder()
            spool.path("t").write_text(
                '{"custom_id":"k","method":"POST","url":"/v1/chat/completions","body":'
                '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Label row 1"}]}}\n'
            )
            apis = Apis(hours.clock(), timeout_s=TIMEOUT_S, outage_s=3_600)
            apis.wall = hours.wall
            courier = Courier(store.batches, spool, members, apis)
            (member,) = members
            await courier.assign(flight, member)
            try:
                await work(courier, flight, members)
            finally:
                await apis.aclose()

    asyncio.run(do())


def test_a_batch_is_not_made_again_before_the_first_request_can_have_no_effect(desk: Desk) -> None:
    hours, moments = Hours(), []
    base_url = desk.serve(
        batch={"requests": [{"name": "server_500", "match": "POST /v1/batches$", "first": 1}]}
    )
    desk.on_entry = lambda entry: moments.append((entry.method, entry.path, hours.passed_s))

    async def work(courier: Courier, flight: Flight, members: Members) -> None:
        (member,) = members
        assert await courier.bring(flight, member)
        assert flight.is_running

    courier_on(desk, base_url, hours, work)
    first, second = (at_s for *what, at_s in moments if tuple(what) == CREATE)
    assert second - first >= TIMEOUT_S + SETTLE_S
    looks = [at_s for method, path, at_s in moments if (method, path) == ("GET", "/v1/batches")]
    gaps = [later - sooner for sooner, later in pairwise(looks)]
    assert len(looks) >= 4
    assert gaps[:3] == sorted(gaps[:3])


def test_of_two_batches_of_one_file_the_older_is_kept(desk: Desk) -> None:
    base_url = desk.serve(batch={"latency": "30s"})

    async def work(courier: Courier, flight: Flight, members: Members) -> None:
        (member,) = members
        told: list[str] = []
        courier.say = told.append
        await courier.bring(flight, member)
        kept = flight.record.remote_id
        api = courier._apis.of(member.key)  # a second request that came through
        await api.create(flight.record.file_id, "chat/completions", "t.0")
        assert await courier.find(flight)
        assert flight.record.remote_id == kept
        assert "made twice" in told[0]

    courier_on(desk, base_url, Hours(0.0), work)
    assert desk.stats.batches["cancels"] == 1


def test_a_batch_that_no_key_may_look_for_goes_to_no_other_one(desk: Desk) -> None:
    base_url = desk.serve(keys={"sk-test-1234567890": {"batch": False}})

    async def work(courier: Courier, flight: Flight, members: Members) -> None:
        del members
        with pytest.raises(RunStopped, match="Missing scopes"):
            await courier.find(flight)
        assert flight.record.status is BatchStatus.WRITTEN

    courier_on(desk, base_url, Hours(), work)


def killed_before_create(desk: Desk) -> None:
    point = "before gptflow.engine.batch_api:BatchApi.create"
    words = [sys.executable, str(LAUNCHER), point, "run", "spec.yaml", "--quiet"]
    assert subprocess.run(words, cwd=desk.folder, check=False).returncode == -9


def test_a_batch_is_found_by_its_key_where_files_of_one_organization_are_apart(
    desk: Desk,
) -> None:
    base_url = desk.serve(keys={f"sk-test-{name}-1234567": {} for name in "ab"})
    first, second = (
        {"api_key": f"sk-test-{name}-1234567", "name": name, "organization": "org"} for name in "ab"
    )
    desk.write_keys({**first, "base_url": base_url})
    point = "before gptflow.engine.batch_api:_state"
    words = [sys.executable, str(LAUNCHER), point, "run", "spec.yaml", "--quiet"]
    assert subprocess.run(words, cwd=desk.folder, check=False).returncode == -9
    desk.write_keys({**second, "base_url": base_url}, {**first, "base_url": base_url})
    assert desk.run() == 0
    assert sum(desk.submitted()) == 15


def test_a_batch_of_another_run_that_was_never_made_is_not_made(desk: Desk) -> None:
    desk.serve()
    killed_before_create(desk)
    with desk.store() as store:  # long ago
        store.batches._writer.call(
            lambda db: db.execute("UPDATE batches SET changed_at = changed_at - 86400")
        )
    (desk.folder / "spec.yaml").write_text(SPEC.replace("Label row", "Label anew row"))
    assert desk.run() == 0
    assert sum(desk.submitted()) == 15
    assert desk.output() == done(*NUMBERS)


def test_a_batch_that_no_queue_holds_is_split(desk: Desk) -> None:
    desk.serve(batch={"enqueued_tokens": 40})
    assert desk.run("--set", "parallelism.batch.requests=100") == 0
    assert desk.output() == done(*NUMBERS)


def test_a_queue_that_takes_nothing_stops_the_run(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"enqueued_tokens": 1})
    assert desk.run() == 3
    told = capsys.readouterr().out
    assert "Enqueued token limit reached" in told
    assert "parallelism.batch.enqueued_tokens" in told
    assert desk.submitted()


def test_calls_that_wait_for_room_are_told_by_a_command_that_does_not(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.serve(batch={"latency": "30s"})
    assert desk.run("--no-wait", "--set", "parallelism.batch.enqueued_tokens=20") == 3
    told = capsys.readouterr().out
    assert "with the provider" in told
    assert "wait for room in the provider's queue" in told


def test_nothing_is_submitted_once_a_batch_was_cancelled(desk: Desk) -> None:
    desk.write_rows(24)
    ends = [{"status": "cancelled", "first": 1, "answered": 0.0}]
    desk.serve(batch={"latency": "1s", "ends": ends})
    assert desk.run("--set", "parallelism.batch.enqueued_tokens=20") == 3
    assert len(desk.submitted()) == 1
