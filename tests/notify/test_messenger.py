from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gptflow.notify.lark import LarkBot
from gptflow.notify.messenger import MOST_SINGLY, MOST_WAITING, Messenger
from tests.lark_server import HANG_S, TOKEN, LarkServer, Reply


class Troubles(list[str]):
    """Takes what a messenger tells of trouble."""


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
def messenger(lark: LarkServer, troubles: Troubles) -> Messenger:
    return Messenger(LarkBot(lark.hook, timeout_s=5, backoff_s=0.01), on_trouble=troubles.append)


def run(script: str, lark: LarkServer) -> tuple[str, float]:
    """What a Python process says on stderr, and the seconds it took."""
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LARK_HOOK": lark.hook},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr, time.monotonic() - began_s


def test_messages_arrive_in_their_order(messenger: Messenger, lark: LarkServer) -> None:
    messenger.post("one")
    messenger.post_card("two", "a card", color="green")
    assert messenger.close(10)
    assert lark.texts == ["one", "two\na card"]


def test_nobody_waits_for_an_endpoint_that_hangs(lark: LarkServer, troubles: Troubles) -> None:
    lark.answer_with(Reply(hangs=True))
    messenger = Messenger(LarkBot(lark.hook, timeout_s=HANG_S), on_trouble=troubles.append)
    began_s = time.monotonic()
    for number in range(50):
        messenger.post(str(number))
    assert not messenger.close(0.1)
    assert time.monotonic() - began_s < HANG_S / 2
    assert troubles == ["Lark did not take all messages within 0.1 s"]


def test_many_messages_that_wait_go_as_one(messenger: Messenger, lark: LarkServer) -> None:
    lark.answer_with(Reply(delay_s=0.3), Reply())
    messenger.post("first")
    lark.wait_for(1)
    for number in range(MOST_SINGLY + 1):
        messenger.post(f"message {number}")
    assert messenger.close(10)
    assert len(lark.texts) == 2
    assert lark.texts[1].split("\n\n") == [f"message {n}" for n in range(MOST_SINGLY + 1)]


def test_a_storm_is_bounded_and_says_what_it_left_out(
    messenger: Messenger, lark: LarkServer
) -> None:
    lark.answer_with(Reply(delay_s=0.5), Reply())
    messenger.post("first")
    lark.wait_for(1)
    for number in range(10_000):
        messenger.post(f"message {number} " + "x" * 1_000)
    assert messenger.close(10)
    first, second = lark.texts
    assert first == "first"
    assert f"({10_000 - MOST_WAITING:,} earlier messages are left out)" in second
    assert "message 9999 " in second
    assert lark.received[1].size_bytes < 20_000


@pytest.mark.parametrize("code", [19001, 19021, 19022, 19024])
def test_after_a_final_answer_it_gives_up_with_one_warning(
    code: int, messenger: Messenger, lark: LarkServer, troubles: Troubles
) -> None:
    lark.answer_with(Reply(code))
    for number in range(20):
        messenger.post(str(number))
    assert messenger.close(10)
    messenger.post("more")
    assert messenger.close(10)
    (trouble,) = troubles
    assert trouble.startswith("this Lark hook gets no more messages")
    assert f"code {code}" in trouble
    assert "Hint: " in trouble
    assert TOKEN not in trouble
    assert len(lark.received) == 1


def test_a_passing_trouble_is_told_once_until_a_message_goes_through(
    messenger: Messenger, lark: LarkServer, troubles: Troubles
) -> None:
    lark.answer_with(Reply(status=500), Reply(status=503), Reply(), Reply(status=502))
    for number in range(4):
        messenger.post(str(number))
        assert messenger.close(10)
    assert [trouble[-10:] for trouble in troubles] == ["status 500", "status 502"]


def test_without_a_listener_trouble_is_a_python_warning(lark: LarkServer) -> None:
    lark.answer_with(Reply(19001))
    messenger = Messenger(LarkBot(lark.hook))

    def send() -> None:
        messenger.post("hello")
        messenger.close(10)

    with pytest.warns(RuntimeWarning, match="no bot behind this hook") as told:
        send()
    assert TOKEN not in str(told[0].message)


def test_neither_a_listener_that_raises_nor_warnings_as_errors_hurt_it(lark: LarkServer) -> None:
    def bad_listener(_: str) -> None:
        raise RuntimeError

    lark.answer_with(Reply(status=500), Reply(status=500), Reply())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for listener in (bad_listener, None):
            messenger = Messenger(LarkBot(lark.hook), on_trouble=listener)
            messenger.post("lost")
            assert messenger.close(10)
            messenger.post("heard")
            assert messenger.close(10)
    assert lark.texts[-1] == "heard"


def test_a_message_that_cannot_be_said_harms_none_after_it(
    messenger: Messenger, lark: LarkServer, troubles: Troubles
) -> None:
    for _ in range(2):
        messenger.post_card("a card", "of no colour", color=object())  # type: ignore[arg-type]
    messenger.post("heard")
    assert messenger.close(10)
    assert lark.texts == ["heard"]
    assert troubles == ["a message could not be sent (TypeError)"]


@contextmanager
def no_more_threads() -> Iterator[None]:
    """The process can start no thread until the end: no machine has room for such a stack."""
    threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(0)


def test_what_waits_for_a_thread_is_not_called_sent_and_goes_later(
    messenger: Messenger, lark: LarkServer, troubles: Troubles
) -> None:
    with no_more_threads():
        messenger.post("waits")
        assert not messenger.close(0.1)
    assert troubles == ["Lark did not take all messages within 0.1 s"]
    messenger.post("goes")
    assert messenger.close(10)
    assert lark.texts == ["waits", "goes"]


def test_its_thread_ends_with_its_last_message(messenger: Messenger, lark: LarkServer) -> None:
    messenger.post("hello")
    lark.wait_for(1)
    assert messenger.close(10)
    assert "gptflow-lark" not in {thread.name for thread in threading.enumerate()}


def test_it_travels_to_another_process_by_its_bot(lark: LarkServer) -> None:
    other = pickle.loads(pickle.dumps(Messenger(LarkBot(lark.hook))))
    other.post("from afar")
    assert other.close(10)
    assert lark.texts == ["from afar"]
    assert repr(other) == "Messenger(LarkBot(127.0.0.1))"


SAYS = """
from gptflow.notify.lark import LarkBot
from gptflow.notify.messenger import Messenger
messenger = Messenger(LarkBot())
messenger.post("last words")
"""

FORKS = """
import os
messenger.post("from the parent")
child = os.fork()
messenger.post("from the child" if child == 0 else "from the parent again")
assert messenger.close(10)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""

STARTS_CHILDREN = """
import multiprocessing
context = multiprocessing.get_context("fork")
messenger.close(10)
child = context.Process(target=messenger.post, args=("from the child",))
child.start()
child.join()
assert child.exitcode == 0
"""


SAYS_LATE = """
import atexit
atexit.register(messenger.post, "very last words")
class Late:
    def __del__(self):
        messenger.post("too late")
late = Late()
late.self = late
"""


def test_a_message_at_the_very_end_hurts_nobody(lark: LarkServer) -> None:
    stderr, _ = run(SAYS + SAYS_LATE, lark)
    assert "last words" in lark.texts
    assert stderr == ""


WITHOUT_REQUESTS = """
import sys
sys.path.insert(0, {folder!r})
{says}
assert messenger.close(10)
sys.path.remove({folder!r})
messenger.post("heard")
assert messenger.close(10)
"""


def test_a_package_that_cannot_be_imported_costs_one_message(
    lark: LarkServer, tmp_path: Path
) -> None:
    (tmp_path / "requests.py").write_text("raise RuntimeError('no file can be opened')")
    stderr, _ = run(WITHOUT_REQUESTS.format(folder=str(tmp_path), says=SAYS), lark)
    assert lark.texts == ["heard"]
    assert "the request to 127.0.0.1 failed (RuntimeError)" in stderr
    assert "Traceback" not in stderr


def test_messages_go_out_before_the_process_ends(lark: LarkServer) -> None:
    stderr, _ = run(SAYS, lark)
    assert (lark.texts, stderr) == (["last words"], "")


def test_a_process_does_not_wait_long_for_an_endpoint_that_hangs(lark: LarkServer) -> None:
    lark.answer_with(Reply(hangs=True))
    stderr, took_s = run(SAYS, lark)
    assert took_s < HANG_S
    assert stderr.count("did not take all messages within 3 s") == 1
    assert "Traceback" not in stderr


def test_a_forked_child_says_its_own_and_not_its_parents(lark: LarkServer) -> None:
    stderr, _ = run(SAYS + FORKS, lark)
    assert sorted(lark.texts) == [
        "from the child",
        "from the parent",
        "from the parent again",
        "last words",
    ]
    assert stderr == "" or "multi-threaded" in stderr  # Python 3.12 warns of any fork


def test_a_child_of_multiprocessing_says_its_last_words(lark: LarkServer) -> None:
    run(SAYS + STARTS_CHILDREN, lark)
    assert sorted(lark.texts) == ["from the child", "last words"]
