from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from gptflow.data.replay import replay
from gptflow.engine.caller import Send
from gptflow.engine.wire import decode
from gptflow.errors import CallFailed, DataError, RunStopped, StoreError
from gptflow.records import (
    Call,
    Failure,
    FailureKind,
    Reply,
    Row,
    RowResult,
    RowStatus,
)
from gptflow.runner.archive import RunArchive
from gptflow.runner.begin import begin
from gptflow.runner.desk import Desk
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent
from gptflow.runner.lanes import MAX_UNCOMMITTED_BYTES, Lanes
from gptflow.runner.loop import run_coroutine
from gptflow.runner.prepare import Prepared
from gptflow.runner.talk import Talk
from gptflow.runner.width import Width
from gptflow.store.reader import StoreReader
from gptflow.store.store import Store
from tests.runner.conftest import SPEC, Folder

ONE_STEP = SPEC[: SPEC.index("  - name: apology")]
VARIED = ONE_STEP.replace(", temperature: 0", "")
Answer = Callable[[Call], Reply | Exception]


def reply(text: str, *, finish_reason: str = "stop", key_name: str = "main") -> Reply:
    body = {
        "choices": [{"message": {"content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    read = decode(msgspec.json.encode(body))
    assert isinstance(read, Reply)
    return msgspec.structs.replace(read, key_name=key_name)


def good(call: Call) -> Reply:
    del call
    return reply("good")


def prompt(call: Call) -> str:
    return str(call.messages[-1]["content"])


@dataclass
class ScriptedAsker:
    """Answers each call as told, after a moment; an exception is raised."""

    answer: Answer = good
    delay_s: float = 0.001
    calls: list[Call] = field(default_factory=list)
    preferred: list[str | None] = field(default_factory=list)
    on_call: Callable[[], object] = lambda: None
    in_flight: int = 0
    most_in_flight: int = 0

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        assert send is None
        self.calls.append(call)
        self.preferred.append(prefer)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.on_call()
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.in_flight -= 1
        answer = self.answer(call)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """A run in a store, and lanes to work on it."""

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        asker: ScriptedAsker,
        archive: type[RunArchive] = RunArchive,
    ) -> None:
        self.store = store
        self.run = begin(store, prepared, fresh=False, retry=None).run
        self.events: list[RunEvent] = []
        self.on_event: Callable[[], object] = lambda: None
        """Called after each event."""
        self.taken = 0
        pending = store.reader.pending(self.run.run_id)
        rows = replay(prepared.source, pending, prepared.spec.source.id_columns)
        kept = archive(store, self.run)
        desk = Desk(asker, kept, self._hear)
        talk = Talk(prepared.plan, desk.reply)
        self.lanes = Lanes(talk.converse, desk, kept, self._counted(rows), self._hear)

    def _hear(self, event: RunEvent) -> None:
        self.events.append(event)
        self.on_event()

    def _counted(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            self.taken += 1
            yield row

    def work(self, concurrency: int = 4) -> list[RowResult]:
        """Works to the end; the rows' results as another process would read them right then."""
        run_coroutine(asyncio.wait_for(self.lanes.run(Width.fixed(concurrency)), 20))
        return self.results()

    def results(self) -> list[RowResult]:
        with StoreReader(self.store.path) as reader:
            return list(reader.results(self.run.run_id))

    def fields(self) -> list[Any]:
        return [msgspec.json.decode(result.fields) for result in self.results()]

    def heard(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def test_every_row_is_done_and_committed_on_return(folder: Folder, store: Store) -> None:
    bench = Bench(folder.prepare(ONE_STEP), store, ScriptedAsker())
    assert [result.status for result in bench.work()] == [RowStatus.DONE] * 3
    assert bench.fields() == [{"label": "good"}] * 3
    assert {event.position for event in bench.heard(RowEnded)} == {0, 1, 2}


def test_a_conversation_stays_on_the_key_that_answered_it_first(
    folder: Folder, store: Store
) -> None:
    folder.write_texts("one")
    asker = ScriptedAsker(lambda _: reply("bad", key_name="backup"))
    (result,) = Bench(folder.prepare(), store, asker).work()
    assert asker.preferred == [None, "backup"]
    assert result.calls == tuple(call.key for call in asker.calls)


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_no_more_conversations_than_told_are_in_flight(
    folder: Folder, store: Store, concurrency: int
) -> None:
    folder.write_texts(*texts(40))
    asker = ScriptedAsker()
    Bench(folder.prepare(ONE_STEP), store, asker).work(concurrency)
    assert asker.most_in_flight == concurrency
    assert len(asker.calls) == 40


def test_a_row_is_taken_when_there_is_a_slot_for_it(folder: Folder, store: Store) -> None:
    folder.write_texts(*texts(40))
    bench = Bench(folder.prepare(ONE_STEP), store, ScriptedAsker())
    taken: list[int] = []
    bench.on_event = lambda: taken.append(bench.taken)
    bench.work(3)
    assert taken[0] == 3


def test_equal_calls_are_asked_once_at_a_time_and_then_found(folder: Folder, store: Store) -> None:
    folder.write_texts(*["same"] * 10)
    asker = ScriptedAsker()
    bench = Bench(folder.prepare(ONE_STEP), store, asker)
    bench.work(4)
    assert len(asker.calls) == 1
    assert [event.reused for event in bench.heard(CallAnswered)].count(False) == 1
    assert bench.fields() == [{"label": "good"}] * 10


def test_equal_calls_whose_answer_may_vary_are_asked_each(folder: Folder, store: Store) -> None:
    folder.write_texts(*["same"] * 5)
    asker = ScriptedAsker()
    Bench(folder.prepare(VARIED), store, asker).work()
    assert len(asker.calls) == 5


def test_a_stored_reply_is_used_instead_of_asking(folder: Folder, store: Store) -> None:
    Bench(folder.prepare(ONE_STEP), store, ScriptedAsker(lambda _: reply("It is bad."))).work()
    asker = ScriptedAsker()
    bench = Bench(folder.prepare(ONE_STEP, steps__label__extract={"all": "text"}), store, asker)
    bench.work()
    assert asker.calls == []
    assert bench.fields() == [{"all": "It is bad."}] * 3
    assert all(event.reused for event in bench.heard(CallAnswered))


def test_a_reply_is_on_disk_before_it_counts(folder: Folder, store: Store) -> None:
    bench = Bench(folder.prepare(ONE_STEP), store, ScriptedAsker())
    stored: list[bool] = []

    def look() -> None:
        with StoreReader(store.path) as other:
            if isinstance(bench.events[-1], CallAnswered):
                stored.append(other.has_replies())
            else:
                stored.append(other.counts(bench.run.run_id).done > 0)

    bench.on_event = look
    bench.work(1)
    assert stored == [True] * 6


def test_a_reply_that_was_cut_off_marks_its_row(folder: Folder, store: Store) -> None:
    asker = ScriptedAsker(
        lambda call: reply("good", finish_reason="length" if "two" in prompt(call) else "stop")
    )
    results = Bench(folder.prepare(ONE_STEP), store, asker).work()
    assert [result.truncated for result in results] == [False, True, False]


# ------------------------------------------------------------------ failures


def failing(word: str, error: Exception) -> ScriptedAsker:
    """Fails the calls whose prompt has a word."""
    return ScriptedAsker(lambda call: error if word in prompt(call) else reply("good"))


def test_a_failed_call_fails_its_row_only(folder: Folder, store: Store) -> None:
    why = Failure(FailureKind.REJECTED, "no such thing", step="label", status=400, attempts=1)
    results = Bench(folder.prepare(ONE_STEP), store, failing("two", CallFailed(why))).work()
    assert [result.status.value for result in results] == ["done", "failed", "done"]
    assert results[1].failure == why
    assert len(results[1].calls) == 1


def test_a_failed_call_fails_every_row_that_waits_for_it(folder: Folder, store: Store) -> None:
    folder.write_texts(*["same"] * 4)
    why = CallFailed(Failure(FailureKind.REFUSED, "no"))
    asker = failing("same", why)
    results = Bench(folder.prepare(ONE_STEP), store, asker).work(4)
    assert [result.failure for result in results] == [why.failure] * 4
    assert len(asker.calls) == 1


def test_a_reply_that_is_not_valid_fails_its_row(folder: Folder, store: Store) -> None:
    asker = ScriptedAsker(lambda call: reply("Hm." if "two" in prompt(call) else "good"))
    results = Bench(folder.prepare(ONE_STEP), store, asker).work()
    assert results[1].failure is not None
    assert (results[1].failure.kind, results[1].failure.reply) == (FailureKind.INVALID, "Hm.")


@pytest.mark.parametrize("rows", [["one", "two", "three"], ["two", "two", "two"]])
def test_a_bug_fails_its_row_and_no_run(folder: Folder, store: Store, rows: list[str]) -> None:
    folder.write_texts(*rows)
    asker = failing("two", ZeroDivisionError("oops"))
    results = Bench(folder.prepare(ONE_STEP), store, asker).work()
    failed = [result.failure for result in results if result.failure]
    assert {failure.message for failure in failed} == {"ZeroDivisionError: oops"}
    assert {failure.kind for failure in failed} == {FailureKind.BUG}
    assert len(failed) == rows.count("two")


def test_a_second_step_that_fails_keeps_the_first_call_with_the_row(
    folder: Folder, store: Store
) -> None:
    folder.write_texts("one")
    why = Failure(FailureKind.SERVER, "overloaded", step="apology")
    asker = ScriptedAsker(lambda call: CallFailed(why) if call.step == "apology" else reply("bad"))
    (result,) = Bench(folder.prepare(), store, asker).work()
    assert result.failure == why
    assert len(result.calls) == 2


# ------------------------------------------------------------------ ends


def test_a_stop_lets_what_is_in_flight_end_and_takes_no_further_row(
    folder: Folder, store: Store
) -> None:
    folder.write_texts(*texts(40))
    asker = ScriptedAsker()
    bench = Bench(folder.prepare(ONE_STEP), store, asker)
    bench.on_event = bench.lanes.drain
    results = bench.work(4)
    assert len(results) == len(asker.calls) == bench.taken < 12
    assert bench.lanes.in_flight == 0


def test_a_run_that_must_stop_stores_what_is_in_flight_and_says_why(
    folder: Folder, store: Store
) -> None:
    folder.write_texts(*texts(40))
    bench = Bench(folder.prepare(ONE_STEP), store, failing("text 9", RunStopped("no key is left")))
    with pytest.raises(RunStopped, match="no key is left"):
        bench.work(4)
    results = bench.results()
    assert 9 not in {result.position for result in results}
    assert {result.status for result in results} == {RowStatus.DONE}
    assert len(results) == bench.taken - 1 < 20


def test_a_source_that_changes_meanwhile_stops_the_run(folder: Folder, store: Store) -> None:
    folder.write_texts(*texts(40))
    prepared = folder.prepare(ONE_STEP)
    bench = Bench(prepared, store, ScriptedAsker())
    folder.write_texts(*texts(20))
    with pytest.raises(DataError, match="the source changed since the run began"):
        bench.work(4)
    assert len(bench.results()) == 20


class SlowDisk(RunArchive):
    """Tells of a result a while after it was stored."""

    waiting = 0
    most_waiting = 0

    def save_result(self, result: RowResult) -> asyncio.Future[None]:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        SlowDisk.waiting += 1
        SlowDisk.most_waiting = max(SlowDisk.most_waiting, SlowDisk.waiting)

        def tell() -> None:
            SlowDisk.waiting -= 1
            told.set_result(None)

        def wait(_: asyncio.Future[None]) -> None:
            told.get_loop().call_later(0.2, tell)

        super().save_result(result).add_done_callback(wait)
        return told


def test_large_results_that_wait_for_the_disk_hold_the_rows_back(
    folder: Folder, store: Store
) -> None:
    large = "x" * (MAX_UNCOMMITTED_BYTES // 4)
    folder.write_rows(*({"text": text, "body": large} for text in texts(12)))
    bench = Bench(folder.prepare(ONE_STEP), store, ScriptedAsker(), SlowDisk)
    assert len(bench.work(2)) == 12
    assert 4 <= SlowDisk.most_waiting <= 4 + 2


class FullDisk(RunArchive):
    """Takes so many replies, and then no more."""

    left = 5

    def save_reply(self, call: Call, reply: Reply) -> asyncio.Future[None]:
        self.left -= 1
        if self.left >= 0:
            return super().save_reply(call, reply)
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refused.set_exception(StoreError("the disk is full"))
        return refused


def test_a_store_that_fails_ends_all_conversations_at_once(folder: Folder, store: Store) -> None:
    folder.write_texts(*texts(40))
    asker = ScriptedAsker(delay_s=0.02)
    bench = Bench(folder.prepare(ONE_STEP), store, asker, FullDisk)
    with pytest.raises(StoreError, match="the disk is full"):
        bench.work(4)
    assert len(asker.calls) <= 12


def test_cancelling_leaves_the_rows_in_flight_pending(folder: Folder, store: Store) -> None:
    folder.write_texts(*texts(8), *["same"] * 2)
    asker = ScriptedAsker(delay_s=30)
    bench = Bench(folder.prepare(ONE_STEP), store, asker)

    async def work_until_cancelled() -> None:
        work = asyncio.ensure_future(bench.lanes.run(Width.fixed(10)))
        asker.on_call = lambda: asker.in_flight == 9 and work.cancel()
        await work

    with pytest.raises(asyncio.CancelledError):
        run_coroutine(work_until_cancelled())
    assert bench.results() == []
    assert bench.lanes.in_flight == asker.in_flight == 0
