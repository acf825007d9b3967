from __future__ import annotations

import asyncio

import pytest

from gptflow.records import RowStatus
from gptflow.runner.budget import GRACE_ROWS, Budget, Reached
from gptflow.runner.events import RowEnded
from gptflow.runner.tally import Tally
from gptflow.spec.limits import LimitsSpec


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A budget that hears of rows that end."""

    def __init__(self, *, done: int = 0, failed: int = 0, **limits: object) -> None:
        self.clock = Clock()
        self.tally = Tally(rows=1_000, done=done, failed=failed)
        self.budget = Budget(LimitsSpec.model_validate(limits), self.tally, self.clock)

    def end(self, *, done: int = 0, failed: int = 0) -> None:
        for status in [RowStatus.DONE] * done + [RowStatus.FAILED] * failed:
            self.budget.count(status)
            self.tally.hear(RowEnded(0, status))

    def concluded(self) -> Reached:
        """The limit that was reached, as it is told at the end of the run."""
        self.budget.conclude()
        assert self.budget.reached is not None
        return self.budget.reached

    def message(self) -> str | None:
        return self.budget.reached.stop.message if self.budget.reached else None


# ------------------------------------------------------------------ failed_rows


def test_as_many_rows_as_are_named_may_fail_and_one_more_stops_the_run() -> None:
    bench = Bench(failed_rows=3)
    bench.end(done=5, failed=3)
    assert bench.message() is None
    bench.end(failed=1)
    assert bench.message() == "limits.failed_rows is reached: 4 rows failed, 3 allowed"
    assert bench.budget.reached is not None
    assert bench.budget.reached.options == ("--retry", "failed")
    assert "--retry failed" in str(bench.budget.reached.stop)


def test_rows_in_flight_that_fail_after_the_limit_was_reached_are_told_of_at_the_end() -> None:
    bench = Bench(failed_rows=0)
    bench.end(failed=3)
    assert bench.message() == "limits.failed_rows is reached: 1 row failed, 0 allowed"
    assert bench.concluded().stop.message.endswith(": 3 rows failed, 0 allowed")


def test_a_share_is_told_as_it_was_if_the_rows_in_flight_make_it_a_good_one() -> None:
    bench = Bench(failed_rows="5%")
    bench.end(failed=3, done=GRACE_ROWS - 3)
    bench.end(done=8)
    assert bench.concluded().stop.message.endswith(": 3 of 58 rows failed (5.2 %), 5% allowed")
    bench.end(done=2)
    assert bench.concluded().stop.message.endswith(
        ": 3 of 50 rows failed (6.0 %), 5% allowed, before the rows in flight ended"
    )


def test_none_may_fail_with_a_limit_of_0() -> None:
    bench = Bench(failed_rows=0)
    bench.end(done=100)
    assert bench.message() is None
    bench.end(failed=1)
    assert bench.message() == "limits.failed_rows is reached: 1 row failed, 0 allowed"


def test_a_share_is_judged_from_fifty_rows_on_also_when_the_fiftieth_is_done() -> None:
    bench = Bench(failed_rows="5%")
    bench.end(failed=10, done=GRACE_ROWS - 11)
    assert bench.message() is None
    bench.end(done=1)
    assert bench.message() == (
        "limits.failed_rows is reached: 10 of 50 rows failed (20.0 %), 5% allowed"
    )


@pytest.mark.parametrize(("failed", "is_reached"), [(30, False), (31, True)])
def test_a_share_may_be_used_up_to_the_last_row(failed: int, is_reached: bool) -> None:
    bench = Bench(failed_rows="5%")
    bench.end(done=600 - failed, failed=failed)
    assert (bench.message() is not None) == is_reached


def test_rows_that_failed_before_this_command_count() -> None:
    bench = Bench(failed_rows=3, failed=4)
    bench.budget.look()
    assert bench.message() == "limits.failed_rows is reached: 4 rows failed, 3 allowed"


@pytest.mark.parametrize("limit", ["100%", 1_000])
def test_a_limit_that_nothing_exceeds_is_never_reached(limit: object) -> None:
    bench = Bench(failed_rows=limit)
    bench.end(failed=1_000)
    assert bench.message() is None


# ------------------------------------------------------------------ wall_s


def test_a_command_may_work_as_long_as_the_limit_says() -> None:
    bench = Bench(wall_s=60)
    bench.clock.now += 59
    bench.budget.look()
    assert (bench.budget.left_s, bench.message()) == (1.0, None)
    bench.clock.now += 2
    bench.budget.look()
    reached = "limits.wall_s is reached: the command has worked for 1:01 min"
    assert bench.message() == f"{reached}, in which no row has ended"
    bench.end(done=1)
    assert bench.concluded().stop.message == reached
    assert bench.concluded().options == ()


@pytest.mark.parametrize(
    ("wall_s", "ran_s", "raised"),
    [(1e-6, 0.1, "120"), (100, 100, "200"), (0.5, 321.5, "650"), (7200, 7201, "15000")],
)
def test_a_time_in_which_no_row_ends_is_to_be_raised(
    wall_s: float, ran_s: float, raised: str
) -> None:
    bench = Bench(wall_s=wall_s)
    bench.clock.now += ran_s
    bench.budget.look()
    reached = bench.concluded()
    assert reached.options == ("--set", f"limits.wall_s={raised}")
    assert f"Hint: give it more time: --set limits.wall_s={raised}" in str(reached.stop)


def test_without_limits_nothing_is_reached() -> None:
    bench = Bench()
    bench.clock.now += 1e9
    bench.end(failed=1_000)
    bench.budget.look()
    assert (bench.budget.left_s, bench.message()) == (None, None)


def test_the_first_limit_that_is_reached_counts() -> None:
    async def reached() -> str:
        bench = Bench(wall_s=1, failed_rows=0)
        falling = asyncio.ensure_future(bench.budget.fall())
        await asyncio.sleep(0)
        bench.end(failed=1)
        bench.budget.expire()
        return (await falling).limit

    assert asyncio.run(reached()) == "limits.failed_rows"


# ------------------------------------------------------------------ cost_usd


@pytest.mark.parametrize(
    ("limit", "money", "message", "raised"),
    [
        (5, (4.5, 0.48, 0.0375), "$4.50 of $5.00 spent, about $0.48 in flight; ", "10"),
        (0.002, (0.001999, 0, 0.0375), "$0.002 of $0.002 spent; ", "0.08"),
        (0, (0, 0, 0.0375), "$0.00 of $0.00 spent; ", "0.08"),
        (1500, (1499.99, 0, 0.0375), "$1,499.99 of $1,500.00 spent; ", "3000"),
    ],
)
def test_a_budget_that_is_spent_says_where_it_stands_and_what_to_raise_it_to(
    limit: float, money: tuple[float, float, float], message: str, raised: str
) -> None:
    budget = Bench(cost_usd=limit).budget
    stop = budget.reach_cost(*money)
    assert stop.message == (f"limits.cost_usd is reached: {message}the next call may cost $0.0375")
    assert budget.reached is not None
    assert budget.reached.options == ("--set", f"limits.cost_usd={raised}")


@pytest.mark.parametrize(
    ("limit", "paid_usd", "rows", "raised"),
    [
        (1, 1, {"done": 100}, "10"),
        (1, 1, {"done": 330, "failed": 3}, "3.1"),
        (1, 1, {"done": 900}, "2"),
        (3e-5, 3e-5, {"done": 1}, "0.03"),
        (0, 3e-5, {"done": 600}, "0.00008"),
        (12, 12, {"done": 7}, "1800"),
    ],
)
def test_a_raise_is_for_all_rows_by_those_that_have_ended(
    limit: float, paid_usd: float, rows: dict[str, int], raised: str
) -> None:
    bench = Bench(cost_usd=limit)
    bench.budget.reach_cost(paid_usd, 0, 1e-5)
    bench.end(**rows)
    assert bench.concluded().options == ("--set", f"limits.cost_usd={raised}")


def test_rows_that_were_reused_say_nothing_of_what_a_row_costs() -> None:
    bench = Bench(cost_usd=1, done=500)
    bench.tally.reused_rows = 490
    bench.budget.reach_cost(1, 0, 0.1)
    assert bench.concluded().options == ("--set", "limits.cost_usd=51")
