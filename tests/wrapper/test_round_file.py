from __future__ import annotations

from pathlib import Path

import pytest

from gptflow.errors import OutputError, UsageError
from gptflow.wrapper.answer_log import AnswerLog
from gptflow.wrapper.round_file import Found, RoundFiles
from gptflow.wrapper.round_line import Item, numbered
from gptflow.wrapper.round_lock import RoundLock, Settings

ITEMS = [Item(0, None, "a"), Item(1, "You see.", [{"type": "text", "text": "b"}])]


def test_half_a_surrogate_pair_is_written_and_read_again(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    item = Item(0, None, "\ud83d and ü")
    with AnswerLog(files.of_worker(0)) as log:
        log.add(item, ["\ud83d", "\U0001f600"])
    assert files.find([item]).answers == {0: ["\ud83d", "\U0001f600"]}
    files.finish([item], files.find([item]))
    assert files.is_finished([item])
    assert files.find([item]).answers == {0: ["\ud83d", "\U0001f600"]}


def test_answers_are_found_in_all_files_the_first_one_counts(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    for worker, answer in ((0, "first"), (12, "second")):
        with AnswerLog(files.of_worker(worker)) as log:
            log.add(ITEMS[1], answer)
    assert files.find(ITEMS).answers == {1: "first"}


def test_an_answer_is_found_by_what_was_asked_and_not_by_its_place(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    with AnswerLog(files.of_worker(0)) as log:
        log.add(ITEMS[1], "b")
    moved = [Item(0, "You see.", [{"text": "b", "type": "text"}]), Item(1, None, "new")]
    assert files.find(moved).answers == {0: "b"}


def test_the_same_question_asked_again_has_an_answer_of_its_own(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    items = numbered([(None, "a"), (None, "b"), (None, "a"), (None, "a")])
    assert [item.nth for item in items] == [0, 0, 1, 2]
    for worker, item, answer in ((0, items[3], "third"), (1, items[0], "first")):
        with AnswerLog(files.of_worker(worker)) as log:
            log.add(item, answer)
    assert files.find(items).answers == {0: "first", 3: "third"}
    with AnswerLog(files.of_worker(0)) as log:
        log.add(items[2], "second")
        log.add(items[1], "b")
    files.finish(items, files.find(items))
    assert files.find(items).answers == {0: "first", 1: "b", 2: "second", 3: "third"}
    assert files.is_finished(items)
    assert not files.is_finished(items[:3])


def test_what_is_not_asked_for_is_kept_until_it_is(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    items = numbered((None, text) for text in ("a", "b", "a"))
    files.finish(items, Found({0: "A", 1: "B", 2: "AA"}, {}))
    few = numbered([(None, "a")])
    files.finish(few, files.find(few))
    assert files.is_finished(few)
    assert files.rest.read_bytes().count(b"\n") == 2
    assert files.find(items).answers == {0: "A", 1: "B", 2: "AA"}
    files.finish(items, files.find(items))
    assert not files.rest.exists()
    assert files.is_finished(items)


def test_a_crash_between_the_files_loses_no_answer_and_counts_none_twice(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    items = numbered((None, text) for text in ("a", "b"))
    with AnswerLog(files.of_worker(0)) as log:
        log.add(items[0], "A")
        log.add(items[1], "B")
    left = files.of_worker(0).read_bytes()
    files.finish(items[:1], files.find(items[:1]))
    files.of_worker(0).write_bytes(left)  # as if the end had not been reached
    twice = numbered((None, text) for text in ("a", "b", "a", "b"))
    assert files.find(twice).answers == {0: "A", 1: "B"}
    files.finish(items, files.find(items))
    assert not files.rest.exists()


def test_files_of_other_rounds_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("worker0_xout.jsonl", "workerA_out.jsonl", "out.json")]
    for path in others:
        path.write_text("mine\n")
    files = RoundFiles(tmp_path / "out.jsonl")
    files.finish(ITEMS, Found({0: "x", 1: "y"}, {}))
    assert [path.read_text() for path in others] == ["mine\n"] * 3


def test_fout_through_a_link_is_written_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "out.jsonl"
    link.symlink_to(tmp_path / "real" / "out.jsonl")
    RoundFiles(link).finish(ITEMS, Found({0: "x", 1: "y"}, {}))
    assert link.is_symlink()
    assert RoundFiles(link).is_finished(ITEMS)


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    RoundFiles(tmp_path / "a" / "b" / "out.jsonl").finish([], Found({}, {}))
    assert (tmp_path / "a" / "b" / "out.jsonl").read_bytes() == b""


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        RoundFiles(tmp_path / "file" / "out.jsonl")


def test_a_lock_remembers_what_was_asked_with_and_lets_one_in_at_a_time(tmp_path: Path) -> None:
    fout = tmp_path / "out.jsonl"
    with RoundLock(fout) as lock:
        assert lock.recorded() is None
        lock.record(Settings("a-model-with-a-long-name", "digest"))
        lock.record(Settings("m", "d"))
        with pytest.raises(UsageError, match="is being written by another call"):
            RoundLock(fout)
    with RoundLock(fout) as lock:
        assert lock.recorded() == Settings("m", "d")


def test_a_crash_while_it_is_noted_what_is_asked_with_leaves_no_file_that_says_nothing(
    tmp_path: Path,
) -> None:
    fout = tmp_path / "out.jsonl"
    noted = tmp_path / ".out.jsonl.gptflow"
    with RoundLock(fout) as lock:
        lock.record(Settings("a-model-with-a-long-name", "digest"))
        before = noted.read_bytes()
        lock.record(Settings("m", "d"))
        after = noted.read_bytes()
        assert len(after) < len(before)
        noted.write_bytes(after + before[len(after) :])  # written, and not yet cut off
        assert lock.recorded() == Settings("m", "d")
