from __future__ import annotations

import os
import signal
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from gptflow.runner.interrupt import Interruption
from gptflow.runner.loop import run_coroutine
from gptflow.runner.signals import AGAIN_S, SIGNALS, Interrupted, heed_signal, raising_signals


def signal_self(number: int) -> None:
    os.kill(os.getpid(), number)


class Finalized:
    """What is raised in its `__del__` goes nowhere."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal_self(self._number)


def lose_in_finalizer(number: int) -> None:
    Finalized(number)


def lose_in_weak_reference(number: int) -> None:
    referred = {1}
    reference = weakref.ref(referred, lambda _: signal_self(number))
    del referred
    assert reference() is None


@pytest.mark.parametrize("lose", [lose_in_finalizer, lose_in_weak_reference])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_lost_comes_again(
    lose: Callable[[int], None], number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with raising_signals():
            lose(number)
            time.sleep(60)

    with pytest.raises(Interrupted) as interruption:
        work()
    assert interruption.value.number == number
    assert capsys.readouterr().err == ""


class Slow:
    """Loses what comes while it waits."""

    def __del__(self) -> None:
        time.sleep(20 * AGAIN_S)


def test_a_signal_that_is_lost_twice_comes_a_third_time() -> None:
    def work() -> None:
        with raising_signals():
            Finalized(signal.SIGTERM)
            Slow()
            time.sleep(60)

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()


def test_a_signal_that_is_lost_at_the_end_is_raised_there() -> None:
    with pytest.raises(Interrupted, match="SIGTERM"), raising_signals():
        Finalized(signal.SIGTERM)


def test_calls_do_not_begin_after_a_signal_that_was_lost() -> None:
    told: list[str] = []
    interruption = Interruption()

    async def converse() -> None:
        Finalized(signal.SIGHUP)
        with interruption.handling(lambda: told.append("drain"), lambda: told.append("halt")):
            told.append("calls")

    with raising_signals():
        run_coroutine(converse())
    assert (told, interruption.signal) == (["halt", "calls"], signal.SIGHUP)


def test_what_else_is_raised_in_vain_is_reported_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))
    before = sys.unraisablehook

    class Careless:
        def __del__(self) -> None:
            raise LookupError

    with raising_signals():
        Careless()
    assert reported == [LookupError]
    assert sys.unraisablehook is before


def test_a_signal_is_known_until_the_outermost_end() -> None:
    with raising_signals():
        with pytest.raises(Interrupted), raising_signals():
            signal_self(signal.SIGTERM)
        received = heed_signal()
        assert received is not None
        assert (received.words, received.exit_code) == ("interrupted by SIGTERM", 143)
    assert heed_signal() is None
    with raising_signals():
        assert heed_signal() is None


def test_afterwards_all_actions_are_what_they_were() -> None:
    numbers = (*SIGNALS, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(Interrupted), raising_signals():
        signal_self(signal.SIGINT)
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
