from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gptflow.data.json_text import parse_object
from gptflow.errors import DataError, UsageError
from gptflow.records import Call, Failure, FailureKind, Reply, RowResult, RowStatus, Usage
from gptflow.runner.begin import Beginning, begin
from gptflow.runner.loop import run_coroutine
from gptflow.runner.prepare import Prepared
from gptflow.runner.server import ServerChoice
from gptflow.store.ledger import CHUNK
from gptflow.store.record import PendingRow, RunStatus
from gptflow.store.run import RunChange
from gptflow.store.store import Store
from tests.runner.conftest import SPEC, Folder

Begin = Callable[..., Beginning]


@pytest.fixture
def start(folder: Folder, store: Store) -> Begin:
    def begin_it(prepared: Prepared | None = None, **options: Any) -> Beginning:
        settings = {"fresh": False, "retry": None} | options
        return begin(store, prepared or folder.prepare(), **settings)

    return begin_it


def finish(store: Store, beginning: Beginning, failed: tuple[int, ...] = ()) -> None:
    """Brings all rows of a run to an end, with a reply each."""

    async def save() -> None:
        run = beginning.run
        for row in store.reader.pending(run.run_id):
            key = row.position.to_bytes(16)
            store.save_reply(
                run.run_id,
                Call(key, "label", "m", [], {}),
                Reply("", "length" if row.position == 1 else "stop", Usage(), "m", b"{}"),
            )
            why = Failure(FailureKind.INVALID, "Hm.", step="label")
            is_failed = row.position in failed
            result = RowResult(
                row.position,
                RowStatus.FAILED if is_failed else RowStatus.DONE,
                b"{}",
                failure=why if is_failed else None,
                calls=(key,),
                truncated=row.position == 1,
            )
            saved = store.save_result(run.run_id, result)
        await saved  # the last one is on the disk when all are

    run_coroutine(save())
    store.update_run(beginning.run.run_id, RunChange(status=RunStatus.FINISHED))


def pending(store: Store, beginning: Beginning) -> list[int]:
    return [row.position for row in store.reader.pending(beginning.run.run_id)]


def test_a_first_run_has_a_pending_row_for_each_row(start: Begin, store: Store) -> None:
    first = start()
    assert first.is_new
    assert pending(store, first) == [0, 1, 2]
    assert first.run.status is RunStatus.RUNNING
    assert (first.run.columns, first.run.fields) == (("text",), ("label", "apology"))
    assert (first.run.spec, first.run.spec_file, first.run.server) == (SPEC, "spec.yaml", "mock")


def test_the_same_command_goes_on_with_the_same_run(start: Begin) -> None:
    first = start()
    again = start()
    assert (again.run.run_id, again.is_new) == (first.run.run_id, False)


def test_a_finished_run_stays_finished(start: Begin, store: Store) -> None:
    finish(store, start())
    assert start().run.status is RunStatus.FINISHED


def test_a_file_that_was_only_touched_is_the_same_data(start: Begin, folder: Folder) -> None:
    first = start()
    os.utime(folder.path / "rows.jsonl", (1, 1))
    again = start()
    assert again.run.run_id == first.run.run_id
    assert again.run.source_fingerprint != first.run.source_fingerprint


def bytes_read() -> int:
    """What this process has read of all files so far."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


@pytest.mark.parametrize("label", ["Label", "Mark"], ids=["same spec", "other prompt"])
def test_a_file_that_nobody_touched_is_not_read_again(
    start: Begin, folder: Folder, label: str
) -> None:
    folder.write_texts(*(f"{number} " * 1000 for number in range(1000)))
    start()
    prepared = folder.prepare(SPEC.replace("Label", label))
    before = bytes_read()
    assert start(prepared).run.rows == 1000
    assert bytes_read() - before < (folder.path / "rows.jsonl").stat().st_size / 4


@pytest.mark.parametrize(
    ("texts", "reused", "left"),
    [
        (["one", "two", "three", "four"], 3, [3]),
        (["three", "two", "one"], 3, []),
        (["one"], 1, []),
        (["one", "2", "three"], 2, [1]),
        (["one", "one", "two"], 2, [1]),
    ],
    ids=["appended", "reordered", "shortened", "edited", "doubled"],
)
def test_other_data_is_a_new_run_that_takes_over_equal_rows(
    start: Begin, folder: Folder, store: Store, texts: list[str], reused: int, left: list[int]
) -> None:
    first = start()
    finish(store, first)
    folder.write_texts(*texts)
    second = start()
    assert second.is_new
    assert second.run.run_id > first.run.run_id
    assert (second.reused_rows, pending(store, second)) == (reused, left)


def test_an_edited_row_with_an_id_is_not_taken_over(
    start: Begin, folder: Folder, store: Store
) -> None:
    folder.write_rows({"id": 1, "text": "a"}, {"id": 2, "text": "b"})
    finish(store, start(folder.prepare(source__id="id")))
    folder.write_rows({"id": 1, "text": "a"}, {"id": 2, "text": "new"})
    second = start(folder.prepare(source__id="id"))
    assert (second.reused_rows, pending(store, second)) == (1, [1])


@pytest.mark.parametrize(
    "values",
    [{"source__limit": 2}, {"source__where": "text != 'two'"}, {"source__sample": {"n": 2}}],
)
def test_another_selection_is_a_new_run(
    start: Begin, folder: Folder, store: Store, values: dict[str, Any]
) -> None:
    finish(store, start())
    second = start(folder.prepare(**values))
    assert second.is_new
    assert (second.run.rows, second.reused_rows) == (2, 2)


def test_another_spec_is_a_new_run_that_takes_over_no_row(
    start: Begin, folder: Folder, store: Store
) -> None:
    finish(store, start())
    second = start(folder.prepare(SPEC.replace("Label", "Mark")))
    assert (second.is_new, second.reused_rows) == (True, 0)


def test_another_where_by_another_var_is_read_again(start: Begin, folder: Folder) -> None:
    where = "text != unwanted"
    start(folder.prepare(vars__unwanted="two", source__where=where))
    second = start(folder.prepare(vars__unwanted="nothing", source__where=where))
    assert (second.is_new, second.run.rows) == (True, 3)


def test_rows_that_are_added_and_left_alike_take_over_all_that_is_behind_an_edit(
    start: Begin, folder: Folder, store: Store
) -> None:
    texts = [f"{number} of many" for number in range(CHUNK + 100)]
    folder.write_texts(*texts)
    finish(store, start())
    texts[CHUNK + 1] = "edited"
    folder.write_texts(*texts, "appended", texts[0])
    second = start()
    assert second.reused_rows == CHUNK + 99
    assert pending(store, second) == [CHUNK + 1, CHUNK + 100, CHUNK + 101]
    assert [row.ordinal for row in store.reader.pending(second.run.run_id)] == [0, 0, 1]


def test_settings_that_do_not_matter_to_a_row_leave_the_run(start: Begin, folder: Folder) -> None:
    first = start()
    spec = SPEC.replace("out.jsonl", "other.csv") + "limits: {attempts: 2}\n"
    again = start(folder.prepare(spec))
    assert again.run.run_id == first.run.run_id
    assert again.run.spec == spec


def test_another_server_is_a_new_run_that_takes_over_nothing(
    start: Begin, folder: Folder, store: Store
) -> None:
    finish(store, start())
    second = start(folder.prepare(mock=False))
    assert (second.is_new, second.reused_rows, second.run.server) == (True, 0, "")


def test_fresh_is_a_new_run_that_takes_over_nothing(start: Begin, store: Store) -> None:
    finish(store, start())
    second = start(fresh=True)
    assert (second.is_new, second.reused_rows, pending(store, second)) == (True, 0, [0, 1, 2])


# ------------------------------------------------------------------ sources that have grown

LINES = [f'{{"id": {number}, "text": "text {number}"}}\n' for number in range(8)]
LATER = ['{"id": 8, "text": "new"}\n', '{"id": 9, "text": "newer", "late": 1}\n']


def ledger(store: Store, beginning: Beginning) -> list[PendingRow]:
    """All of a new run's rows, with their ordinals."""
    store.put_back(beginning.run.run_id, range(beginning.run.rows))
    return list(store.reader.pending(beginning.run.run_id))


def parsed_by(action: Callable[[], Beginning]) -> tuple[int, Beginning]:
    """How many records an action has parsed."""
    parsed = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal parsed
        parsed += event == "call" and frame.f_code is parse_object.__code__

    sys.setprofile(count)
    try:
        result = action()
    finally:
        sys.setprofile(None)
    return parsed, result


@pytest.mark.parametrize("source", [{}, {"id": "id"}], ids=["whole rows", "ids"])
@pytest.mark.parametrize(
    "change",
    [
        (LINES, LINES + LATER, 2),
        (LINES, [*LINES, *LATER[:1], LATER[1][:-1]], 2),
        (["\ufeff\n", *LINES], ["\ufeff\n", *LINES, "\n", *LATER], 2),
        (LINES, [" ", *LINES, *LATER], 10),
        (LINES, [LINES[0].replace("text 0", "text X"), *LINES[1:], *LATER], 10),
        (LINES, [*LINES[:7], LINES[7].replace("text 7", "text X"), *LATER], 10),
        (LINES, LINES[:5], 5),
        (LINES, [*LINES[1:], *LATER], 9),
        ([*LINES[:7], LINES[7][:-1]], LINES + LATER, 10),
        ([*LINES[:7], LINES[7][:-1]], [*LINES[:7], LINES[7][:-1] + " \n", *LATER], 10),
    ],
    ids=[
        "appended",
        "appended without a last line end",
        "behind a mark and blank lines",
        "first byte",
        "first row",
        "last row",
        "cut",
        "first row removed",
        "last line ended",
        "last line continued",
    ],
)
def test_a_file_that_has_grown_has_the_rows_it_would_have_in_a_new_store(
    start: Begin,
    folder: Folder,
    store: Store,
    change: tuple[list[str], list[str], int],
    source: dict[str, Any],
) -> None:
    before, after, parsed = change
    path = folder.path / "rows.jsonl"
    source = {"path": "rows.jsonl", **source}
    path.write_text("".join(before))
    finish(store, start(folder.prepare(source=source)))
    path.write_text("".join(after))
    prepared = folder.prepare(source=source)
    found, grown = parsed_by(lambda: start(prepared))
    anew = start(folder.prepare(source=source), fresh=True)
    assert (found, grown.is_new) == (parsed, True)
    for name in ("rows", "columns", "ledger_digest", "source_fingerprint"):
        assert getattr(grown.run, name) == getattr(anew.run, name), name
    assert len({store.reader.source_proof(begun.run.run_id) for begun in (grown, anew)}) == 1
    assert ledger(store, grown) == ledger(store, anew)


def test_equal_rows_on_both_sides_of_the_border_are_numbered_through(
    start: Begin, folder: Folder, store: Store
) -> None:
    path = folder.path / "rows.jsonl"
    path.write_text("".join(LINES + LINES[:3]))
    finish(store, start())
    path.write_text("".join(LINES + LINES[:3] + LINES[2:4]))
    second = start()
    assert second.reused_rows == 11
    assert [row.ordinal for row in store.reader.pending(second.run.run_id)] == [2, 1]
    assert [entry[3] for entry in ledger(store, second)] == [0] * 8 + [1, 1, 1, 2, 1]


def test_an_id_that_comes_again_behind_the_border_is_refused(
    start: Begin, folder: Folder, store: Store
) -> None:
    path = folder.path / "rows.jsonl"
    path.write_text("".join(LINES))
    start(folder.prepare(source__id="id"))
    path.write_text("".join([*LINES, '{"id": 3, "text": "another"}\n']))
    with pytest.raises(DataError, match=r"rows\.jsonl:9 has the id of rows\.jsonl:4"):
        start(folder.prepare(source__id="id"))
    assert len(store.reader.runs()) == 1


def test_a_broken_line_behind_the_border_is_named_by_its_place(
    start: Begin, folder: Folder, store: Store
) -> None:
    path = folder.path / "rows.jsonl"
    path.write_text("".join(LINES))
    start()
    path.write_text("".join([*LINES, "{broken\n"]))
    with pytest.raises(DataError, match=r"rows\.jsonl:9"):
        start()
    assert len(store.reader.runs()) == 1


def test_a_file_that_grows_again_and_again_is_known_each_time(
    start: Begin, folder: Folder, store: Store
) -> None:
    path = folder.path / "rows.jsonl"
    for count in range(3, 9):
        path.write_text("".join(LINES[:count]))
        prepared = folder.prepare()
        parsed, beginning = parsed_by(partial(start, prepared))
        finish(store, beginning)
        assert (parsed, beginning.run.rows) == (3 if count == 3 else 1, count)


def test_a_file_that_was_only_touched_is_known_by_its_bytes(start: Begin, folder: Folder) -> None:
    (folder.path / "rows.jsonl").write_text("".join(LINES))
    first = start()
    os.utime(folder.path / "rows.jsonl", (1, 1))
    prepared = folder.prepare()
    parsed, again = parsed_by(lambda: start(prepared))
    assert (parsed, again.run.run_id, again.is_new) == (0, first.run.run_id, False)


@pytest.mark.parametrize(
    "values", [{"source__id": "id"}, {"source__limit": 99}, {"source__where": "id >= 0"}]
)
def test_another_selection_of_a_file_that_has_grown_is_read_anew(
    start: Begin, folder: Folder, values: dict[str, Any]
) -> None:
    path = folder.path / "rows.jsonl"
    path.write_text("".join(LINES))
    start()
    path.write_text("".join(LINES + LATER))
    prepared = folder.prepare(**values)
    parsed, second = parsed_by(lambda: start(prepared))
    assert (parsed, second.run.rows) == (10, 10)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM ledger WHERE row_id & 7 = 2",
        "DELETE FROM ledger WHERE row_id & 7 = 7",
        "UPDATE ledger SET row_key = zeroblob(16) WHERE row_id & 7 = 2",
        "UPDATE ledger SET record = record + 1",
        "UPDATE runs SET rows = 7",
    ],
)
@pytest.mark.parametrize("label", ["Label", "Mark"], ids=["same spec", "other prompt"])
def test_a_ledger_that_is_not_what_it_was_proves_nothing(
    start: Begin, folder: Folder, store: Store, damage: str, label: str
) -> None:
    path = folder.path / "rows.jsonl"
    path.write_text("".join(LINES))
    start()
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute(damage)
    if label == "Label":
        path.write_text("".join(LINES + LATER))
    second = start(folder.prepare(SPEC.replace("Label", label)))
    rows = len(LINES + LATER) if label == "Label" else len(LINES)
    anew = start(folder.prepare(SPEC.replace("Label", label)), fresh=True)
    assert (second.is_new, second.run.rows) == (True, rows)
    assert ledger(store, second) == ledger(store, anew)


# ------------------------------------------------------------------ retrying


@pytest.mark.parametrize(("retry", "left"), [("failed", [0, 2]), ("truncated", [1])])
def test_retry_makes_rows_pending_again(
    start: Begin, store: Store, retry: str, left: list[int]
) -> None:
    finish(store, start(), failed=(0, 2))
    again = start(retry=retry)
    assert (again.retried_rows, pending(store, again)) == (len(left), left)
    assert again.run.status is RunStatus.RUNNING


def test_retry_without_failed_rows_leaves_the_run_finished(start: Begin, store: Store) -> None:
    finish(store, start())
    again = start(retry="failed")
    assert (again.retried_rows, again.run.status) == (0, RunStatus.FINISHED)


def test_retry_needs_a_run_of_this_spec_and_this_data(start: Begin, folder: Folder) -> None:
    with pytest.raises(UsageError, match="no run of 'reviews'") as caught:
        start(retry="failed")
    assert caught.value.hint == "run it without --retry first"
    start()
    folder.write_texts("other")
    with pytest.raises(UsageError, match="to retry"):
        start(retry="failed")


# ------------------------------------------------------------------ data that is refused


def test_two_rows_with_one_id_are_named_by_file_and_line(
    start: Begin, folder: Folder, store: Store
) -> None:
    rows = [{"id": number % 4, "text": str(number)} for number in range(7)]
    folder.write_rows(*rows)
    with pytest.raises(DataError) as caught:
        start(folder.prepare(source__id="id"))
    assert caught.value.message == (
        "id does not identify a row (source.id):\n"
        "  rows.jsonl:5 has the id of rows.jsonl:1\n"
        "  rows.jsonl:6 has the id of rows.jsonl:2\n"
        "  rows.jsonl:7 has the id of rows.jsonl:3"
    )
    assert "leave id out" in (caught.value.hint or "")
    assert store.reader.runs() == []


def test_of_many_ids_that_are_not_unique_five_are_shown(start: Begin, folder: Folder) -> None:
    folder.write_rows(*({"id": number % 50, "text": "x"} for number in range(100)))
    with pytest.raises(DataError) as caught:
        start(folder.prepare(source__id="id"))
    assert caught.value.message.count("has the id of") == 5


def test_an_id_in_two_files_is_named_by_both(start: Begin, folder: Folder) -> None:
    folder.write_rows({"id": 1}, {"id": 2}, name="a.jsonl")
    folder.write_rows({"id": 3}, {"id": 1}, name="b.jsonl")
    source = {"path": ["a.jsonl", "b.jsonl"], "id": "id"}
    spec = SPEC.replace("{{ text }}", "{{ row.id }}")
    with pytest.raises(DataError, match=r"b\.jsonl:2 has the id of a\.jsonl:1"):
        start(folder.prepare(spec, source=source))


def test_equal_rows_without_an_id_are_no_mistake(start: Begin, folder: Folder) -> None:
    folder.write_texts("same", "same")
    assert start().run.rows == 2


@pytest.mark.parametrize("name", ["label", "apology", "labels", "steps"])
def test_a_column_that_turns_up_late_with_a_taken_name_is_refused(
    start: Begin, folder: Folder, store: Store, name: str
) -> None:
    rows: list[dict[str, Any]] = [{"text": str(number)} for number in range(150)]
    folder.write_rows(*rows, {"text": "x", name: "late"})
    with pytest.raises(DataError, match=name):
        start()
    assert store.reader.runs() == []


def test_a_broken_line_leaves_no_run_behind(start: Begin, folder: Folder, store: Store) -> None:
    with (folder.path / "rows.jsonl").open("a") as file:
        file.writelines(f'{{"text": "{number}"}}\n' for number in range(200))
        file.write("{broken\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:204"):
        start()
    assert store.reader.runs() == []


def test_a_file_that_is_gone_is_named(start: Begin, folder: Folder) -> None:
    prepared = folder.prepare()
    Path("rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"rows\.jsonl: cannot be read: No such file"):
        start(prepared)


def test_a_choice_of_server_is_part_of_what_was_prepared(folder: Folder) -> None:
    assert folder.prepare().choice == ServerChoice(mock=True)
