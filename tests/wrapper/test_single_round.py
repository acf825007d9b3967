from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gptflow import GPTWrapper
from gptflow.errors import OutputError, PromptsFailed, RunStopped, UsageError, WorkerFailed
from gptflow.wrapper.single_round import single_round_multi_process, single_round_multi_thread
from tests.lark_server import LarkServer
from tests.wrapper.desk import MODEL, Desk, desk_at

PROMPTS = ["zero", "one", "two", "three", "four", "five"]
FAILING = {"failures": [{"name": "context_length_exceeded", "match": "^bad"}]}


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path, FAILING, keys=2) as desk:
        yield desk


def ask(desk: Desk, prompts: Any = PROMPTS, system_prompts: Any = None, **given: Any) -> list[Any]:
    """The call of a user, with what this test is not about filled in."""
    whole: dict[str, Any] = {"engine": MODEL, "threads_num": 2, "fout": out(desk), **given}
    return single_round_multi_thread(
        desk.config, system_prompts=system_prompts, prompts=prompts, **whole
    )


def out(desk: Desk) -> Path:
    return desk.folder / "out.jsonl"


def left(desk: Desk) -> list[str]:
    """The names of the workers' files."""
    return sorted(path.name for path in desk.folder.glob("worker*"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answered(*texts: str) -> list[dict[str, Any]]:
    """The lines of a file with answers to these, by a server that echoes."""
    return [
        {"id": at, "system_prompt": None, "prompt": text, "response": text}
        for at, text in enumerate(texts)
    ]


def interrupted(desk: Desk, prompts: list[str], *, bad: int) -> None:
    """Leaves a round in which one prompt had no answer."""
    with pytest.raises(PromptsFailed):
        ask(desk, [*prompts[:bad], "bad", *prompts[bad + 1 :]])
    desk.asked()


def test_responses_come_in_order_and_fout_has_them_and_no_worker_is_left(desk: Desk) -> None:
    assert ask(desk, PROMPTS) == PROMPTS
    assert lines(out(desk)) == answered(*PROMPTS)
    assert list(lines(out(desk))[0]) == ["id", "system_prompt", "prompt", "response"]
    assert left(desk) == []


def test_system_prompts_are_sent_and_written_down(tmp_path: Path) -> None:
    bodies = []

    def reply(body: dict[str, Any]) -> str:
        bodies.append(body)
        return "yes"

    with desk_at(tmp_path, reply=reply) as desk:
        ask(desk, ["a", "b"], ["You see.", None], threads_num=1, temperature=0.5)
    assert [body["messages"] for body in bodies] == [
        [{"role": "system", "content": "You see."}, {"role": "user", "content": "a"}],
        [{"role": "user", "content": "b"}],
    ]
    assert [body["temperature"] for body in bodies] == [0.5, 0.5]
    assert [line["system_prompt"] for line in lines(out(desk))] == ["You see.", None]


def test_one_system_prompt_is_for_all(desk: Desk) -> None:
    ask(desk, ["a", "b"], "You see.")
    assert [line["system_prompt"] for line in lines(out(desk))] == ["You see.", "You see."]


def test_a_model_that_completes_texts_is_asked_in_one_text(tmp_path: Path) -> None:
    with desk_at(tmp_path) as desk:
        responses = ask(desk, ["a", "b"], ["You see.", None], engine="davinci-002", max_tokens=50)
        entries = desk.asked()
    assert len(responses) == 2
    assert entries == ["[System Prompt]: You see.\n[Prompt]: a", "b"]


def test_an_answer_is_in_its_workers_file_before_the_next_question(tmp_path: Path) -> None:
    seen = []

    def reply(body: dict[str, Any]) -> str:
        seen.append([line["response"] for line in lines_of(desk, 0)])
        return str(body["messages"][0]["content"])

    with desk_at(tmp_path, reply=reply) as desk:
        ask(desk, ["a", "b", "c"], threads_num=1)
    assert seen == [[], ["a"], ["a", "b"]]


def lines_of(desk: Desk, worker: int) -> list[dict[str, Any]]:
    path = desk.folder / f"worker{worker}_out.jsonl"
    return lines(path) if path.exists() else []


@pytest.mark.parametrize("threads_num", [1, 2, 5])
def test_a_rerun_asks_only_what_is_missing_with_any_number_of_threads(
    desk: Desk, threads_num: int
) -> None:
    with pytest.raises(PromptsFailed):
        ask(desk, ["bad one", *PROMPTS, "bad two"])
    assert desk.asked() == sorted(["bad one", *PROMPTS, "bad two"])
    assert left(desk) == ["worker0_out.jsonl", "worker1_out.jsonl"]
    prompts = ["good one", *PROMPTS, "good two"]
    assert ask(desk, prompts, threads_num=threads_num) == prompts
    assert desk.asked() == ["good one", "good two"]
    assert lines(out(desk)) == answered(*prompts)
    assert left(desk) == []


def test_a_prompt_without_an_answer_is_told_with_its_reason_after_all_others_were_asked(
    desk: Desk,
) -> None:
    with pytest.raises(PromptsFailed) as caught:
        ask(desk, ["bad", *PROMPTS, "bad again"])
    message = str(caught.value)
    assert message.startswith("2 of 8 prompts have no answer\n  2 x rejected: ")
    assert "(id 0, 7)" in message
    assert "the same call again asks only these" in message
    assert sorted(caught.value.reasons) == [0, 7]
    assert not out(desk).exists()


def test_a_torn_last_line_is_dropped_and_asked_again(desk: Desk) -> None:
    interrupted(desk, PROMPTS, bad=0)  # worker 0 has two and four, worker 1 one, three and five
    torn = desk.folder / "worker1_out.jsonl"
    torn.write_bytes(torn.read_bytes()[:-9])
    assert ask(desk, PROMPTS) == PROMPTS
    assert desk.asked() == ["five", "zero"]
    assert lines(out(desk)) == answered(*PROMPTS)


def test_a_line_that_lacks_only_its_end_counts(desk: Desk) -> None:
    interrupted(desk, PROMPTS, bad=0)
    whole = desk.folder / "worker1_out.jsonl"
    whole.write_bytes(whole.read_bytes()[:-1])
    assert ask(desk, PROMPTS) == PROMPTS
    assert desk.asked() == ["zero"]


def test_an_answer_to_another_prompt_or_system_prompt_does_not_count(desk: Desk) -> None:
    interrupted(desk, PROMPTS, bad=0)
    changed = ["zero", "uno", *PROMPTS[2:]]
    systems = [None, None, "You see.", None, None, None]
    assert ask(desk, changed, systems) == changed
    assert desk.asked() == ["two", "uno", "zero"]


def test_lines_that_are_no_answers_are_passed_over(desk: Desk) -> None:
    strange = [b"\xff\xfe", b"[]", b"7", b'{"id": 9}', b'{"id": "0", "response": 1}', b"", b"{" * 9]
    (desk.folder / "worker7_out.jsonl").write_bytes(b"\n".join(strange))
    assert ask(desk, PROMPTS) == PROMPTS
    assert left(desk) == []


def test_a_round_that_is_done_is_not_asked_again(desk: Desk) -> None:
    ask(desk, PROMPTS)
    before = out(desk).stat()
    desk.asked()
    assert ask(desk, PROMPTS, threads_num=5) == PROMPTS
    assert desk.asked() == []
    assert out(desk).stat().st_mtime_ns == before.st_mtime_ns


def test_nothing_that_was_answered_is_asked_again_whichever_prompts_are_asked_meanwhile(
    desk: Desk,
) -> None:
    ask(desk, PROMPTS)
    ask(desk, PROMPTS[:2])
    assert lines(out(desk)) == answered(*PROMPTS[:2])
    ask(desk, ["other"])
    desk.asked()
    assert ask(desk, ["new", *PROMPTS[::-1], "zero"]) == ["new", *PROMPTS[::-1], "zero"]
    assert desk.asked() == ["new", "zero"]
    assert lines(out(desk)) == answered("new", *PROMPTS[::-1], "zero")
    assert ask(desk, ["other"]) == ["other"]
    assert desk.asked() == []


def test_a_call_that_fails_keeps_what_an_earlier_one_left(desk: Desk) -> None:
    interrupted(desk, PROMPTS, bad=0)
    with pytest.raises(PromptsFailed):
        ask(desk, ["bad", "other"])
    assert desk.asked() == ["bad", "other"]
    assert ask(desk, ["fine"]) == ["fine"]
    desk.asked()
    assert ask(desk, [*PROMPTS, "other"]) == [*PROMPTS, "other"]
    assert desk.asked() == ["zero"]


def test_prompts_that_were_added_are_asked_and_the_others_kept(desk: Desk) -> None:
    ask(desk, PROMPTS)
    desk.asked()
    assert ask(desk, [*PROMPTS, "six"]) == [*PROMPTS, "six"]
    assert desk.asked() == ["six"]
    assert ask(desk, PROMPTS[:2]) == PROMPTS[:2]
    assert desk.asked() == []
    assert lines(out(desk)) == answered(*PROMPTS[:2])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"engine": "gpt-4o"}, f"{MODEL} has answered, not gpt-4o"),
        ({"temperature": 0.1}, "they were asked with other parameters"),
    ],
)
def test_answers_of_another_model_or_with_other_parameters_are_not_mixed_in(
    desk: Desk, changed: dict[str, Any], told: str
) -> None:
    interrupted(desk, PROMPTS, bad=0)
    with pytest.raises(UsageError, match=told) as caught:
        ask(desk, PROMPTS, **changed)
    assert desk.asked() == []
    assert ".out.jsonl.gptflow" in str(caught.value)
    with pytest.raises(UsageError, match=told):  # nor those of other prompts lost
        ask(desk, ["other"], **changed)
    (desk.folder / ".out.jsonl.gptflow").unlink()  # as the hint has it
    assert ask(desk, PROMPTS, **changed) == PROMPTS
    assert desk.asked() == ["zero"]


def test_what_does_not_fit_is_an_error_before_any_request(desk: Desk) -> None:
    taken = desk.folder / "folder"
    taken.mkdir()
    cases: list[tuple[str, dict[str, Any]]] = [
        ("there are 2 system_prompts for 6 prompts", {"system_prompts": ["a", "b"]}),
        ("prompts is 'text', not a list", {"prompts": "text"}),
        ("prompts is None, not a list", {"prompts": None}),
        (r"prompts\[1\] is nan, not a text", {"prompts": ["a", float("nan")]}),
        (r"system_prompts\[0\] is 7", {"system_prompts": [7] * 6}),
        ("did you mean 'temperature'", {"temperatur": 0}),
        ("no model is given", {"engine": None}),
        ("threads_num is 0", {"threads_num": 0}),
        ("fout is ''", {"fout": ""}),
        ("which is a folder", {"fout": taken}),
    ]
    for told, given in cases:
        with pytest.raises(UsageError, match=told):
            ask(desk, **given)
    assert desk.asked() == []
    assert left(desk) == []


def test_no_prompts_make_an_empty_file(desk: Desk) -> None:
    assert ask(desk, []) == []
    assert out(desk).read_bytes() == b""


def test_two_calls_at_once_do_not_write_the_same_file(tmp_path: Path) -> None:
    refusals: list[UsageError] = []

    def reply(_: dict[str, Any]) -> str:
        try:
            ask(desk, ["a"])
        except UsageError as error:
            refusals.append(error)
        return "yes"

    with desk_at(tmp_path, reply=reply) as desk:
        assert ask(desk, ["a"]) == ["yes"]
    assert "is being written by another call" in str(refusals[0])


def test_a_full_disk_is_an_error_and_what_is_answered_is_kept(desk: Desk) -> None:
    interrupted(desk, PROMPTS, bad=0)
    (desk.folder / "worker0_out.jsonl").unlink()
    (desk.folder / "worker0_out.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device") as caught:
        ask(desk, PROMPTS)
    assert "the same call goes on from there" in str(caught.value)
    assert len(lines_of(desk, 1)) >= 3


def test_a_prompt_that_cannot_be_sent_fails_alone(desk: Desk) -> None:
    with pytest.raises(PromptsFailed, match="1 of 2 prompts have no answer") as caught:
        ask(desk, ["\ud83d", "fine"])
    assert "surrogate" in caught.value.reasons[0]


def test_when_no_call_can_be_answered_any_more_the_round_ends_at_once_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = {"failures": [{"name": "insufficient_quota", "after": 3}]}
    prompts = [f"prompt {at}" for at in range(30)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-desk-1234567890-key0")

    def call() -> list[Any]:
        return GPTWrapper.single_round_multi_thread(
            engine=MODEL, threads_num=1, prompts=prompts, fout="out.jsonl"
        )

    with desk_at(tmp_path, spent) as desk:
        Path(desk.config).unlink()
        monkeypatch.setenv("OPENAI_BASE_URL", desk.base_url)
        with pytest.raises(RunStopped, match="no API key is left"):
            call()
        assert len(desk.asked()) < 10
        assert [line["prompt"] for line in lines_of(desk, 0)] == prompts[:3]
    with desk_at(tmp_path) as desk:
        Path(desk.config).unlink()
        monkeypatch.setenv("OPENAI_BASE_URL", desk.base_url)
        assert call() == prompts
        assert desk.asked() == sorted(prompts[3:])


def test_the_hook_is_told_and_the_api_is_not(desk: Desk) -> None:
    with LarkServer() as lark:
        ask(desk, ["a secret question"], lark_hook=lark.hook)
        began, ended = lark.wait_for(2)
    assert began.startswith("single round, out.jsonl started")
    assert ended.endswith("returned '0 prompts without an answer'")
    assert "question" not in began + ended


def test_ctrl_c_lets_answers_on_the_wire_come_back_and_a_rerun_goes_on(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        if text == "three":
            os.kill(os.getpid(), signal.SIGINT)
            has_come.wait(20)  # the answer is sent when the interrupt has been noticed
        return text

    has_come = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        has_come.set()
        signal.default_int_handler(number, frame)

    with desk_at(tmp_path, reply=reply) as desk:
        signal.signal(signal.SIGINT, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                ask(desk, PROMPTS, threads_num=1)
        finally:
            signal.signal(signal.SIGINT, before)
        assert [line["prompt"] for line in lines_of(desk, 0)] == PROMPTS[:4]
        desk.asked()
        assert ask(desk, PROMPTS) == PROMPTS
        assert desk.asked() == ["five", "four"]


def test_ctrl_c_lets_the_answer_to_a_process_come_back_too(tmp_path: Path) -> None:
    program = (
        "from gptflow import GPTWrapper\n"
        "if __name__ == '__main__':\n"
        f"    GPTWrapper.single_round_multi_process('config.json', {MODEL!r}, 1, None, "
        f"{PROMPTS!r}, 'out.jsonl')\n"
    )
    on_wire, is_signalled = threading.Event(), threading.Event()

    def reply(body: dict[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        if text == "three":
            on_wire.set()
            is_signalled.wait(20)
            time.sleep(0.5)  # the worker has heard of it by then, and has several seconds still
        return text

    with desk_at(tmp_path, reply=reply) as desk:
        process = desk.start(program)
        on_wire.wait(30)
        process.send_signal(signal.SIGINT)
        is_signalled.set()
        _, err = process.communicate(timeout=60)
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert err.count("Traceback") == 1
        assert [line["prompt"] for line in lines_of(desk, 0)] == PROMPTS[:4]
        assert desk.asked() == sorted(PROMPTS[:4])


def test_a_killed_program_loses_no_more_than_what_was_on_the_wire(tmp_path: Path) -> None:
    prompts = [f"prompt {at}" for at in range(20)]
    program = (
        "from gptflow import GPTWrapper\n"
        f"GPTWrapper.single_round_multi_thread('config.json', {MODEL!r}, 3, None, "
        "[f'prompt {at}' for at in range(20)], 'out.jsonl')\n"
    )

    def reply(body: dict[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        if text == "prompt 13" and process.poll() is None:
            process.kill()
        return text

    with desk_at(tmp_path, reply=reply) as desk:
        process = desk.start(program)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        first = desk.asked()
        assert ask(desk, prompts, threads_num=2) == prompts
        second = desk.asked()
    assert set(first) | set(second) == set(prompts)
    assert len(set(first) & set(second)) <= 3


def test_processes_go_on_where_they_were_killed(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        if text == "five" and not killed.is_set():  # asked after one and three, by the same worker
            killed.set()
            for child in multiprocessing.active_children():
                child.kill()
        return text

    def call() -> list[Any]:
        return single_round_multi_process(
            desk.config, MODEL, 2, [None] * 6, PROMPTS, desk.folder / "out.jsonl"
        )

    killed = threading.Event()
    with desk_at(tmp_path, reply=reply) as desk:
        with pytest.raises(WorkerFailed, match="was killed by SIGKILL"):
            call()
        kept = [line["prompt"] for worker in (0, 1) for line in lines_of(desk, worker)]
        assert {"one", "three"} <= set(kept)
        desk.asked()
        assert call() == PROMPTS
        assert desk.asked() == sorted(set(PROMPTS) - set(kept))
        assert lines(out(desk)) == answered(*PROMPTS)
