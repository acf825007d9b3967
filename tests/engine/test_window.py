"""Concurrency that is found by trying, against servers that slow down under load."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gptflow.engine.keys import KeyPool
from tests.engine.simulation import Outcome, Server, Simulation, entries

ROWS = 6000


def server(
    latency_s: Callable[[int], float], most_in_flight: int = 10**9, status: int = 503
) -> Server:
    def noisy(in_flight: int, chance: random.Random) -> float:
        return latency_s(in_flight) * chance.lognormvariate(-0.02, 0.2)

    return Server(
        style="silent",
        hint="none",
        latency=noisy,
        most_in_flight=most_in_flight,
        overload=status,
    )


def fixed(latency_s: Callable[[int], float], concurrency: int) -> float:
    pool = KeyPool(entries(1))
    return Simulation(pool, server(latency_s), most=concurrency).run(ROWS).per_s


def automatic(simulated: Server, seed: int) -> Outcome:
    return Simulation(KeyPool(entries(1), adaptive=True), simulated, seed=seed).run(ROWS)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("latency_s", "best"),
    [
        (lambda n: 0.1 * max(1, n / 16), (16, 32)),
        (lambda n: 0.1 * max(1, n / 48), (48, 64)),
        (lambda n: 2.0 * max(1, n / 32), (32, 64)),
        (lambda n: 0.05 * n, (4, 16)),
        (lambda n: 0.1 * (1 + n / 16), (128, 256)),
        (lambda n: 0.1 * max(1, n / 32) ** 2, (32,)),
        (lambda n: 0.1 * max(1, n / 4) ** 2, (4,)),
    ],
    ids=["16 at a time", "48 at a time", "slow", "one at a time", "batch", "collapse", "few"],
)
def test_throughput_is_that_of_the_best_fixed_concurrency(
    latency_s: Callable[[int], float], best: tuple[int, ...], seed: int
) -> None:
    found = automatic(server(latency_s), seed)

    assert found.per_s >= 0.95 * max(fixed(latency_s, concurrency) for concurrency in best)


@pytest.mark.parametrize("seed", range(2))
def test_a_plateau_is_not_climbed_without_end(seed: int) -> None:
    flat = server(lambda n: 0.1 * max(1, n / 16))
    pool = KeyPool(entries(1), adaptive=True)
    found = Simulation(pool, flat, seed=seed).run(8 * ROWS)

    assert found.most_in_flight < 16 * 8


def test_a_server_that_grows_slower_is_not_pushed_further() -> None:
    found = automatic(server(lambda n: 0.1 * max(1, n / 64) ** 1.5), 0)

    assert found.per_s >= 0.8 * 640


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("limit", [10, 48, 100])
def test_who_refuses_above_a_number_in_flight_gets_that_number(limit: int, status: int) -> None:
    found = automatic(server(lambda _: 0.1, limit, status), 0)

    assert found.per_s >= 0.85 * limit / 0.1
    assert found.refused < 20
