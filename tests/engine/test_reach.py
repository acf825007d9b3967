"""A key whose server is gone, while the server of another key answers. The clock is passed in."""

from __future__ import annotations

import pytest

from gptflow.engine.config import KeyEntry
from gptflow.engine.keys import KeyPool, Lease, Wait
from gptflow.engine.reach import LONGEST_REST_S, UNANSWERED, UNREACHED
from gptflow.engine.secret import Secret
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.records import FailureKind

GONE = Verdict(VerdictKind.RETRY, "cannot connect", failure=FailureKind.TRANSPORT)
SPENT = Verdict(VerdictKind.EXHAUSTED, "no money")
LONG_REST = Verdict(VerdictKind.REST, "come back tomorrow", status=429, wait_s=86_400.0)
LACKING = Verdict(VerdictKind.NO_MODEL, "no such model", status=404)


def pool_of(*names: str) -> KeyPool:
    return KeyPool([KeyEntry(name, Secret(f"sk-0123456789-{name}")) for name in names])


def taken(pool: KeyPool, name: str, now: float) -> Lease:
    lease = pool.take(now, "m-1", prefer=name)
    assert isinstance(lease, Lease), lease
    assert lease.key.name == name
    return lease


def settle(pool: KeyPool, name: str, now: float, verdict: Verdict | None) -> None:
    pool.settle(taken(pool, name, now), now, verdict)


def lose(pool: KeyPool, name: str, now: float, *, reached: bool = False) -> bool:
    """A call that gets no answer. Returns whether another key's server answers."""
    lease = taken(pool, name, now)
    is_elsewhere = pool.note_absence(lease, now, reached=reached)
    pool.settle(lease, now, GONE)
    return is_elsewhere


def resting_until(pool: KeyPool, name: str, now: float) -> float | None:
    [state] = [one for one in pool.outlook(now) if one.name == name]
    return state.until if state.word == "resting" else None


@pytest.mark.parametrize(("reached", "calls"), [(False, UNREACHED), (True, UNANSWERED)])
def test_it_rests_after_some_calls_in_a_row_while_another_answers(
    reached: bool, calls: int
) -> None:
    pool = pool_of("dead", "alive")
    settle(pool, "alive", 0.0, None)
    for _ in range(calls):
        assert resting_until(pool, "dead", 0.0) is None
        assert lose(pool, "dead", 0.0, reached=reached)

    assert resting_until(pool, "dead", 0.0) == 1.0
    lease = pool.take(0.0, "m-1", prefer="dead")
    assert isinstance(lease, Lease)
    assert lease.key.name == "alive"


def test_it_rests_ever_longer_until_it_answers() -> None:
    pool = pool_of("dead", "alive")
    settle(pool, "alive", 0.0, None)
    now, rests = 0.0, []
    for _ in range(UNREACHED - 1):
        lose(pool, "dead", now)
    for _ in range(8):
        lose(pool, "dead", now)
        until = resting_until(pool, "dead", now)
        assert until is not None
        rests.append(until - now)
        now = until
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_REST_S, LONGEST_REST_S]

    settle(pool, "dead", now, None)
    lose(pool, "dead", now)
    assert resting_until(pool, "dead", now) is None


def test_calls_that_left_together_count_as_one_try_once_it_rests() -> None:
    pool = pool_of("dead", "alive")
    settle(pool, "alive", 0.0, None)
    leases = [taken(pool, "dead", 0.0) for _ in range(4)]
    for lease in leases:
        pool.note_absence(lease, 0.1, reached=False)
        pool.settle(lease, 0.1, GONE)

    assert resting_until(pool, "dead", 0.1) == pytest.approx(1.1)


def test_the_only_key_never_rests_for_it() -> None:
    pool = pool_of("dead", "out")
    settle(pool, "out", 0.0, None)
    settle(pool, "out", 0.0, SPENT)
    settle(pool, "dead", 0.0, None)
    assert not any(lose(pool, "dead", 0.0) for _ in range(9))
    assert resting_until(pool, "dead", 0.0) is None
    assert not isinstance(pool.take(0.0, "m-1"), Wait)


def test_keys_that_rest_or_lack_the_model_are_not_in_service() -> None:
    pool = pool_of("a", "b", "c", "d")
    settle(pool, "b", 0.0, LONG_REST)
    settle(pool, "c", 0.0, LACKING)
    settle(pool, "d", 0.0, SPENT)

    assert pool.in_service(0.0, "m-1") == {"a"}
    assert pool.in_service(0.0, "m-2") == {"a", "b", "c"}
    assert pool.in_service(86_401.0, "m-1") == {"a", "b"}
