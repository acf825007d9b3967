from __future__ import annotations

import asyncio
import functools
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gptflow.notify.sender import lark_sender
from tests.lark_server import HANG_S, TOKEN, LarkServer, Reply


class Boom(Exception):
    """What the functions here crash with."""


def test_a_function_is_told_before_and_after_with_its_return_value(lark: LarkServer) -> None:
    @lark_sender(webhook_url=lark.hook, content="experiment 7")
    def train(epochs: int, *, rate: float) -> dict[str, float]:
        """Trains."""
        return {"loss": epochs * rate}

    assert train(2, rate=0.5) == {"loss": 1.0}
    assert (train.__name__, train.__doc__) == ("train", "Trains.")
    started, finished = lark.wait_for(2)
    assert re.search(r"train started$", started, re.MULTILINE)
    assert re.search(r"train finished after \d+\.\d s$", finished, re.MULTILINE)
    assert "returned {'loss': 1.0}" in finished
    for text in (started, finished):
        assert "experiment 7" in text
        assert socket.gethostname() in text


def test_the_hook_may_come_from_the_environment(
    lark: LarkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARK_HOOK", lark.hook)

    @lark_sender()
    def work() -> None: ...

    work()
    assert "returned None" in lark.wait_for(2)[1]


def test_without_a_hook_it_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="LARK_HOOK"):
        lark_sender()


def test_a_crash_is_told_with_the_tracebacks_end_and_raised_on(lark: LarkServer) -> None:
    boom = Boom("the disk <at user_id='all'> is full")

    def deeper() -> None:
        raise boom

    @lark_sender(lark.hook)
    def work() -> None:
        deeper()

    with pytest.raises(Boom) as caught:
        work()
    assert caught.value is boom
    _, crashed = lark.wait_for(2)
    assert "work crashed after" in crashed
    assert "in deeper" in crashed
    assert crashed.endswith("Boom: the disk < at user_id='all'> is full")
    assert "_telling" not in crashed


def test_what_looks_like_a_key_is_told_neither_of_a_crash_nor_of_a_value(lark: LarkServer) -> None:
    keys = ["sk-proj-abcdef_0123456789", "gsk_0123456789abcdef", f"Bearer {'a1' * 9}"]

    @lark_sender(lark.hook)
    def work(crash: bool) -> list[str]:
        if crash:
            raise Boom(f"wrong: {keys}, for risk-assessment-of-tasks")
        return keys

    work(crash=False)
    with pytest.raises(Boom):
        work(crash=True)
    _, finished, _, crashed = lark.wait_for(4)
    assert "returned ['…', '…', 'Bearer …']" in finished
    assert "wrong: ['…', '…', 'Bearer …'], for risk-assessment-of-tasks" in crashed


def test_a_long_crash_and_a_long_value_are_shortened(lark: LarkServer) -> None:
    @lark_sender(lark.hook)
    def work(crash: bool) -> list[str]:
        if crash:
            raise Boom("x" * 100_000 + " the end")
        return ["y" * 100_000] * 100_000

    work(crash=False)
    with pytest.raises(Boom):
        work(crash=True)
    _, finished, _, crashed = lark.wait_for(4)
    assert len(finished) < 1_000
    assert len(crashed) < 2_000
    assert crashed.endswith(" the end")


def test_a_coroutine_function_stays_one(lark: LarkServer) -> None:
    @lark_sender(lark.hook)
    async def work(crash: bool) -> str:
        await asyncio.sleep(0)
        if crash:
            raise Boom
        return "done"

    assert asyncio.iscoroutinefunction(work)
    assert asyncio.run(work(crash=False)) == "done"
    with pytest.raises(Boom):
        asyncio.run(work(crash=True))
    texts = lark.wait_for(4)
    assert "returned 'done'" in texts[1]
    assert "in work" in texts[3]


def test_a_cancelled_coroutine_is_told_and_stays_cancelled(lark: LarkServer) -> None:
    @lark_sender(lark.hook)
    async def work() -> None:
        await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert "was ended by CancelledError" in lark.wait_for(2)[1]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "was interrupted after"),
        (SystemExit(0), "ended the process after"),
        (SystemExit(3), "crashed after"),
        (StopIteration(7), "crashed after"),
    ],
)
def test_how_it_ended_is_told_in_words(error: BaseException, words: str, lark: LarkServer) -> None:
    @lark_sender(lark.hook)
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    assert words in lark.wait_for(2)[1]


def test_methods_of_all_kinds_are_decorated(lark: LarkServer) -> None:
    class Trainer:
        @lark_sender(lark.hook)
        def run(self, steps: int) -> int:
            return steps

        @classmethod
        @lark_sender(lark.hook)
        def make(cls) -> Trainer:
            return cls()

        @staticmethod
        @lark_sender(lark.hook)
        def check() -> bool:
            return True

    assert Trainer.make().run(3) == 3
    assert Trainer.check()
    assert "Trainer.run started" in "".join(lark.wait_for(6))


def test_a_value_that_cannot_be_shown_is_named_by_its_type(lark: LarkServer) -> None:
    class Sulky(dict[str, str]):
        def __repr__(self) -> str:
            raise Boom

        def __len__(self) -> int:
            raise Boom

    @lark_sender(lark.hook)
    def work() -> Sulky:
        return Sulky()

    work()
    assert "Sulky" in lark.wait_for(2)[1]


def generates() -> Iterator[int]:
    yield 1


async def generates_async() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (generates, "generators"),
        (generates_async, "generators"),
        (Boom, "functions and methods"),
        (7, "functions and methods"),
        (classmethod(Boom), "below @classmethod"),
        (staticmethod(Boom), "below @staticmethod"),
    ],
)
def test_what_it_cannot_tell_of_it_refuses_at_once(what: Any, words: str, lark: LarkServer) -> None:
    with pytest.raises(TypeError, match=words):
        lark_sender(lark.hook)(what)


def test_without_parentheses_it_says_so() -> None:
    with pytest.raises(TypeError, match=r"@lark_sender\(\)"):
        lark_sender(generates)  # type: ignore[arg-type]


def test_a_partial_is_told_by_its_type(lark: LarkServer) -> None:
    work: Callable[[], int] = lark_sender(lark.hook)(functools.partial(int, "7"))
    assert work() == 7
    assert "partial started" in lark.wait_for(2)[0]


@pytest.mark.parametrize("reply", [Reply(hangs=True), Reply(status=500), Reply(19021)])
def test_a_dead_hook_neither_hurts_nor_slows_the_work(reply: Reply, lark: LarkServer) -> None:
    lark.answer_with(reply)
    script = """
import sys, time, warnings
from gptflow.notify.sender import lark_sender

@lark_sender(sys.argv[1])
def work():
    return 7

began_s = time.monotonic()
assert [work() for _ in range(20)] == [7] * 20
print(time.monotonic() - began_s)
"""
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, lark.hook],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert float(done.stdout) < HANG_S / 2
    assert time.monotonic() - began_s < HANG_S
    assert done.stderr.count("Warning: ") == 1
    assert TOKEN not in done.stderr
