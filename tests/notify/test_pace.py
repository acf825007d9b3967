from __future__ import annotations

import threading
from itertools import pairwise

from gptflow.notify.pace import Pace, pace_of


def sent_at(count: int) -> list[float]:
    """When each of so many messages goes that are all wanted at 0."""
    pace = Pace()
    return [pace.take(0.0) for _ in range(count)]


def test_five_go_at_once_and_the_sixth_a_second_later() -> None:
    moments = sent_at(6)
    assert moments[:5] == [0.0] * 5
    assert 1.0 < moments[5] < 1.2


def test_never_more_than_five_a_second_and_a_hundred_a_minute() -> None:
    moments = sent_at(450)
    assert all(b >= a for a, b in pairwise(moments))
    assert all(later - first > 1 for first, later in zip(moments, moments[5:], strict=False))
    assert all(later - first > 60 for first, later in zip(moments, moments[100:], strict=False))
    assert moments[-1] < 60 * 5


def test_a_pause_gives_the_room_back() -> None:
    pace = Pace()
    for _ in range(5):
        pace.take(0.0)
    assert pace.wait_s(0.5) > 0.5
    assert pace.wait_s(2.0) == 0


def test_a_hook_has_one_pace_in_all_threads() -> None:
    waits: list[float] = []
    threads = [
        threading.Thread(target=lambda: waits.append(pace_of("hook").take(0.0))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == sent_at(20)
    assert pace_of("another").wait_s(0.0) == 0
