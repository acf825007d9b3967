from __future__ import annotations

from pathlib import Path

import pytest

from gptflow.errors import OutputError, UsageError
from gptflow.wrapper.round_file import AnswerLog, Item, RoundFiles
from gptflow.wrapper.round_lock import RoundLock, Settings

ITEMS = [Item(0, None, "a"), Item(1, "You see.", [{"type": "text", "text": "b"}])]


def test_half_a_surrogate_pair_is_written_and_read_again(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    item = Item(0, None, "\ud83d and ü")
    with AnswerLog(files.of_worker(0)) as log:
        log.add(item, ["\ud83d", "\U0001f600"])
    assert files.answers([item]) == {0: ["\ud83d", "\U0001f600"]}
    files.finish([item], files.answers([item]))
    assert files.is_finished([item])


def test_answers_are_found_in_all_files_the_first_one_counts(tmp_path: Path) -> None:
    files = RoundFiles(tmp_path / "out.jsonl")
    for worker, answer in ((0, "first"), (12, "second")):
        with AnswerLog(files.of_worker(worker)) as log:
            log.add(ITEMS[1], answer)
    assert files.answers(ITEMS) == {1: "first"}


def test_files_of_other_rounds_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("worker0_xout.jsonl", "workerA_out.jsonl", "out.json")]
    for path in others:
        path.write_text("mine\n")
    files = RoundFiles(tmp_path / "out.jsonl")
    files.finish(ITEMS, {0: "x", 1: "y"})
    assert [path.read_text() for path in others] == ["mine\n"] * 3


def test_fout_through_a_link_is_written_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "out.jsonl"
    link.symlink_to(tmp_path / "real" / "out.jsonl")
    RoundFiles(link).finish(ITEMS, {0: "x", 1: "y"})
    assert link.is_symlink()
    assert RoundFiles(link).is_finished(ITEMS)


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    RoundFiles(tmp_path / "a" / "b" / "out.jsonl").finish([], {})
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
