from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gptflow.errors import UsageError, WorkerFailed
from gptflow.wrapper.pipelines import multi_process_pipeline
from tests.wrapper import jobs
from tests.wrapper.desk import Desk, desk_at, eventually, is_alive

SLEEPERS = """
import os, sys, threading
from pathlib import Path
from gptflow import GPTWrapper

def sleep(pid, wrapper, chunk):
    Path(f"asleep-{os.getpid()}").touch()
    threading.Event().wait(60)

if __name__ == "__main__":
    GPTWrapper.multi_process_pipeline("config.json", 2, range(4), sleep)
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path, keys=2) as desk:
        yield desk


def test_results_come_in_the_order_of_the_data_and_each_worker_begins_at_its_own_key(
    desk: Desk,
) -> None:
    results = multi_process_pipeline(desk.config, 3, iter(range(7)), jobs.ask)
    assert results == ["0", "1", "2", "3", "4", "5", "6"]
    keys = {str(entry.user): entry.key for entry in desk.entries}
    assert [keys[str(item)] for item in range(7)] == ["key0"] * 2 + ["key1"] * 2 + ["key0"] * 3


def test_args_and_kwargs_reach_the_function(desk: Desk) -> None:
    results = multi_process_pipeline(
        desk.config,
        processes_num=2,
        data=["ab"],
        func=jobs.tell_all,
        args=(1,),
        kwargs={"k": 2},
    )
    assert results == [(0, "ab", (1,), {"k": 2})]


@pytest.mark.parametrize(
    ("func", "error", "told"),
    [
        (jobs.crash, LookupError, "the bad item"),
        (jobs.be_killed, WorkerFailed, "worker 1 was killed by SIGKILL before it gave its results"),
        (jobs.leave, WorkerFailed, "worker 1 ended with exit code 3 before it gave its results"),
    ],
)
def test_when_a_worker_fails_or_dies_the_others_are_ended_and_it_is_told_at_once(
    desk: Desk, func: Callable[..., Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told) as caught:
        multi_process_pipeline(desk.config, 2, ["good", "bad"], func, args=(desk.folder,))
    (asleep,) = desk.folder.glob("asleep-*")
    pid = int(asleep.name.removeprefix("asleep-"))
    assert not is_alive(pid)
    assert (desk.folder / f"ended-{pid}").exists(), "it could not clean up"
    if error is LookupError:
        assert 'raise LookupError("the bad item")' in str(caught.value.__cause__)


def test_results_that_do_not_pickle_are_an_error_that_says_so(desk: Desk) -> None:
    with pytest.raises(UsageError, match="the results of worker 0 cannot leave its process"):
        multi_process_pipeline(desk.config, 1, [1], jobs.give_a_lock)


def test_what_cannot_be_sent_to_a_worker_is_refused_before_anything_starts(desk: Desk) -> None:
    def inner(*_: Any) -> list[Any]:
        return []

    lock = threading.Lock()
    cases: list[tuple[str, dict[str, Any]]] = [
        ("is a lambda", {"func": lambda *_: [], "data": [1]}),
        ("is a function inside another one", {"func": inner, "data": [1]}),
        (r"args\[0\] cannot be given", {"func": jobs.ask, "data": [1], "args": (lock,)}),
        (r"kwargs\['k'\] cannot be given", {"func": jobs.ask, "data": [1], "kwargs": {"k": lock}}),
        ("data, item 1", {"func": jobs.ask, "data": [1, lock]}),
    ]
    for told, given in cases:
        with pytest.raises(UsageError, match=told) as caught:
            multi_process_pipeline(desk.config, 1, **given)
        assert "multi_thread_pipeline" in str(caught.value)


def test_a_script_without_a_guard_is_told_once_what_to_do(desk: Desk) -> None:
    process = desk.start(
        "from gptflow import GPTWrapper\n"
        "from tests.wrapper import jobs\n"
        "GPTWrapper.multi_process_pipeline('config.json', 2, range(4), jobs.ask)\n"
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count("Traceback") == 1
    assert "main.py starts its processes as soon as it is imported" in err
    assert 'Hint: put what starts them below `if __name__ == "__main__":`' in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["-c"], "ask was defined in a notebook"), (["-"], "the program comes from <stdin>")],
)
def test_a_function_that_no_worker_could_import_is_refused(
    desk: Desk, arguments: list[str], told: str
) -> None:
    program = (
        "from gptflow import GPTWrapper\n"
        "def ask(*_): return []\n"
        "if __name__ == '__main__':\n"
        "    GPTWrapper.multi_process_pipeline('config.json', 2, range(4), ask)\n"
    )
    given = program if arguments == ["-"] else None
    process = desk.start_python(*arguments, *([] if given else [program]), stdin=subprocess.PIPE)
    _, err = process.communicate(given, timeout=60)
    assert told in err
    assert "Hint: " in err


def asleep(desk: Desk) -> list[int]:
    """The processes of SLEEPERS' workers, once both sleep."""
    notes = eventually(lambda: len(found := list(desk.folder.glob("asleep-*"))) == 2 and found)
    return [int(note.name.removeprefix("asleep-")) for note in notes]


def test_ctrl_c_leaves_no_process_behind_and_only_the_parent_speaks(desk: Desk) -> None:
    process = desk.start(SLEEPERS, start_new_session=True)
    pids = asleep(desk)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, err = process.communicate(timeout=30)
    assert not any(map(is_alive, pids))
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_no_worker_hears_ctrl_c_while_it_begins_the_first_one_neither(desk: Desk) -> None:
    process = desk.start(
        "from gptflow import GPTWrapper\n"
        "from tests.wrapper import jobs\n"
        "if __name__ == '__main__':\n"
        "    print(GPTWrapper.multi_process_pipeline('config.json', 1, ['a'], jobs.tell_all))\n"
    )
    worker = eventually(lambda: first_worker(process.pid))
    os.kill(worker, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("[(0, 'a', (), {})]\n", "")


def first_worker(parent: int) -> int | None:
    """The first child that has become a worker, without what watches over shared resources."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in map(int, children):
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return None


def test_workers_end_when_their_parent_is_killed(desk: Desk) -> None:
    process = desk.start(SLEEPERS)
    pids = asleep(desk)
    began = time.monotonic()
    process.kill()
    process.communicate(timeout=30)
    eventually(lambda: not any(map(is_alive, pids)))
    assert time.monotonic() - began < 15  # they would sleep for a minute
