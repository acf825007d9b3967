from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gptflow.errors import OutputError, UsageError
from gptflow.records import Failure, FailureKind, RowResult, RowStatus
from gptflow.runner.begin import begin
from gptflow.runner.loop import run_coroutine
from gptflow.runner.publish import Publication, Publisher, Target
from gptflow.spec.companion import companions
from gptflow.store.store import Store
from tests.runner.conftest import SPEC, Folder


class Run:
    """A run of three rows, and its output."""

    def __init__(self, folder: Folder, store: Store, spec: str = SPEC) -> None:
        prepared = folder.prepare(spec, mock=False)
        self.store = store
        self.record = begin(store, prepared, fresh=False, retry=None).run
        self.target = Target.of(prepared, self.record)
        self.output = folder.path / "out.jsonl"
        self.part = folder.path / "out.jsonl.part"
        self.failed = folder.path / "out.failed.jsonl"

    def end_row(self, position: int, *, failed: bool = False) -> None:
        why = Failure(FailureKind.INVALID, "Hm.", step="label", reply="Hm.") if failed else None
        result = RowResult(
            position,
            RowStatus.FAILED if failed else RowStatus.DONE,
            b'{"text": "%d"}' % position,
            b'{"label":"good"}',
            why,
        )

        async def save() -> None:
            await self.store.save_result(self.record.run_id, result)

        run_coroutine(save())

    def publish(self, *, commit: bool = True) -> None:
        publisher = Publisher(self.store.path, self.record.run_id, self.target)
        publisher.start()
        publisher.finish(commit=commit)


@pytest.fixture
def run(folder: Folder, store: Store) -> Run:
    return Run(folder, store)


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_the_output_is_in_input_order_and_ends_at_the_first_row_that_is_to_do(run: Run) -> None:
    publication = Publication(run.target)
    with publication:
        seen = []
        for position in (2, 0, 1):
            run.end_row(position)
            publication.advance(run.store.reader, run.record.run_id)
            seen.append(texts(run.part))
    assert seen == [[], ["0"], ["0", "1", "2"]]


def test_the_target_is_there_when_all_is_in_it_and_not_before(run: Run) -> None:
    for position in range(3):
        run.end_row(position)
    run.publish(commit=False)
    assert (run.output.exists(), texts(run.part)) == (False, ["0", "1", "2"])
    run.publish()
    assert (run.part.exists(), texts(run.output)) == (False, ["0", "1", "2"])


def test_failed_rows_go_to_a_file_of_their_own(run: Run) -> None:
    run.end_row(0)
    run.end_row(1, failed=True)
    run.end_row(2)
    run.publish()
    assert texts(run.output) == ["0", "2"]
    (failed,) = [json.loads(line) for line in run.failed.read_text().splitlines()]
    assert (failed["row"], failed["error"]["kind"], failed["reply"]) == (
        {"text": "1"}, "invalid", "Hm.",
    )  # fmt: skip


def test_where_no_row_failed_the_file_of_an_earlier_run_goes(run: Run) -> None:
    for position in range(3):
        run.end_row(position, failed=True)
    run.publish()
    assert run.failed.exists()
    for position in range(3):
        run.end_row(position)
    run.publish()
    assert sorted(path.name for path in run.output.parent.glob("out*")) == ["out.jsonl"]


def test_a_file_of_that_name_that_no_run_wrote_stays(run: Run) -> None:
    run.failed.write_text('{"row": 17, "text": "precious"}\n')
    for position in range(3):
        run.end_row(position)
    run.publish()
    assert run.failed.read_text() == '{"row": 17, "text": "precious"}\n'


def test_an_interrupted_run_leaves_what_is_there_alone(run: Run) -> None:
    run.output.write_text("from an earlier run\n")
    run.failed.write_text("from an earlier run\n")
    run.end_row(0)
    run.publish(commit=False)
    assert run.output.read_text() == run.failed.read_text() == "from an earlier run\n"
    assert texts(run.part) == ["0"]


def test_an_output_that_cannot_be_opened_is_told_before_the_first_call(run: Run) -> None:
    run.output.mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        Publisher(run.store.path, run.record.run_id, run.target)


def test_simulated_rows_go_where_no_source_can_be(folder: Folder) -> None:
    output = folder.prepare(mock=False).output
    assert folder.prepare(mock=True).output in companions(output)


def test_what_stands_in_the_way_of_the_failed_rows_leaves_no_part_of_the_others(run: Run) -> None:
    run.failed.mkdir()
    with pytest.raises(UsageError, match=r"out\.failed\.jsonl: .* it is a folder"):
        Publisher(run.store.path, run.record.run_id, run.target)
    assert not run.part.exists()


def test_two_runs_cannot_publish_to_the_same_file_at_once(run: Run) -> None:
    with Publication(run.target), pytest.raises(UsageError, match="is writing it"):
        Publisher(run.store.path, run.record.run_id, run.target)
    run.publish()


def test_a_bug_on_the_publishers_thread_is_told_to_whom_it_publishes_for(run: Run) -> None:
    for position in range(3):
        run.end_row(position)
    publisher = Publisher(run.store.path, run.record.run_id, run.target)
    publisher._publication._sinks.clear()
    publisher.start()
    with pytest.raises(KeyError):
        publisher.finish(commit=True)
    assert not run.output.exists()


def test_a_store_that_cannot_be_read_for_a_while_is_read_at_the_end(
    run: Run, tmp_path: Path
) -> None:
    for position in range(3):
        run.end_row(position)
    away = run.store.path.rename(tmp_path / "away.db")
    publisher = Publisher(run.store.path, run.record.run_id, run.target)
    publisher.start()
    while not publisher._publication._whole.stream.closed:
        time.sleep(0.01)
    away.rename(run.store.path)
    publisher.finish(commit=True)
    assert texts(run.output) == ["0", "1", "2"]


def test_large_rows_are_held_a_few_at_a_time(folder: Folder, store: Store) -> None:
    count, size = 600, 50_000
    folder.write_texts(*map(str, range(count)))
    run = Run(folder, store)
    filler = b'{"text": "' + b"x" * size + b'"}'

    async def save() -> None:
        rows = [RowResult(at, RowStatus.DONE, filler) for at in range(count)]
        await asyncio.gather(*(store.save_result(run.record.run_id, row) for row in rows))

    run_coroutine(save())
    with Publication(run.target) as publication:
        tracemalloc.start()
        publication.advance(store.reader, run.record.run_id)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(run.part.read_bytes().splitlines()) == count
    assert peak_bytes < count * size * 0.8


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_told_with_the_file_and_what_to_do(run: Run) -> None:
    run.end_row(0)
    publisher = Publisher(run.store.path, run.record.run_id, run.target)
    with Path("/dev/full").open("wb", buffering=0) as full:
        publisher._publication._whole.stream.close()
        publisher._publication._sinks[RowStatus.DONE]._stream = full  # type: ignore[attr-defined]  # a sink's own
        publisher.start()
        with pytest.raises(OutputError, match=r"out\.jsonl: cannot be written: No space") as caught:
            publisher.finish(commit=False)
    assert "make room" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("change", "is_published"),
    [
        ({}, True),
        ({"old": "out.jsonl", "new": "out.csv"}, False),
        ({"old": "{path: out.jsonl}", "new": "{path: out.jsonl, columns: [text]}"}, False),
    ],
)
def test_an_output_counts_as_published_where_the_spec_wants_the_same(
    folder: Folder, run: Run, change: dict[str, Any], is_published: bool
) -> None:
    for position in range(3):
        run.end_row(position)
    run.publish()
    spec = SPEC.replace(change["old"], change["new"]) if change else SPEC
    target = Target.of(folder.prepare(spec, mock=False), run.record)
    finished = msgspec.structs.replace(run.record, output_digest=run.target.digest)
    assert target.is_published(finished) is is_published
    run.output.unlink()
    assert not target.is_published(finished)


def test_an_output_that_cannot_be_is_refused_at_once_and_leaves_no_file(tmp_path: Path) -> None:
    target = Target(tmp_path / "out.parquet", None, known=())
    with pytest.raises(UsageError, match="a Parquet file needs a column"):
        Publication(target)
    assert list(tmp_path.iterdir()) == []
