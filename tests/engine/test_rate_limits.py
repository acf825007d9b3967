"""The pool against simulated servers with limits that it is not told, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from gptflow.engine.config import KeyEntry
from gptflow.engine.keys import KeyPool
from gptflow.engine.secret import Secret
from gptflow.engine.verdicts import VerdictKind
from tests.engine.simulation import Limit, Outcome, Server, Simulation, Style, entries

ROWS = 2000
RPM = 1200
SUM_PER_S = 4 * RPM / 60


def noisy(median_s: float) -> Callable[[int, random.Random], float]:
    return lambda _, chance: median_s * chance.lognormvariate(0, 0.3)


def tokens(chance: random.Random) -> int:
    return chance.randint(50, 150)


def requests_a_minute(**options: Any) -> Callable[[], list[Limit]]:
    return lambda: [Limit(RPM, **options)]


def simulated(
    limits: Callable[[], list[Limit]], *, seed: int = 0, rows: int = ROWS, **server: Any
) -> Outcome:
    keys = entries(4)
    simulated_server = Server({key.name: limits() for key in keys}, **server)
    return Simulation(KeyPool(keys, adaptive=True), simulated_server, seed=seed).run(
        rows, tokens=tokens
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("style", ["openai", "whole seconds", "anthropic", "no reset"])
def test_keys_run_at_their_limits_and_not_over_them(style: Style, seed: int) -> None:
    outcome = simulated(requests_a_minute(), style=style, seed=seed, latency=noisy(0.2))

    assert outcome.per_s >= 0.97 * SUM_PER_S
    assert outcome.refused_share < 0.01


@pytest.mark.parametrize("charged", [0.3, 1.0, 3.0])
def test_what_a_token_is_charged_is_learned(charged: float) -> None:
    per_minute = 120_000 * charged
    outcome = simulated(
        lambda: [Limit(per_minute, unit="tokens")], charge=lambda estimate: charged * estimate
    )

    assert outcome.per_s >= 0.97 * SUM_PER_S
    assert outcome.refused_share < 0.01


@pytest.mark.parametrize(
    "limits",
    [
        lambda: [Limit(RPM), Limit(120_000, unit="tokens")],
        requests_a_minute(burst_s=0.2),
        requests_a_minute(burst_s=10.0),
        requests_a_minute(burst_s=60.0),
    ],
    ids=["both", "small burst", "large burst", "a minute's burst"],
)
def test_whatever_the_burst_the_sum_of_the_limits_is_reached(
    limits: Callable[[], list[Limit]],
) -> None:
    outcome = simulated(limits)

    assert outcome.per_s >= 0.97 * SUM_PER_S
    assert outcome.refused_share < 0.01


def test_a_window_that_fills_at_once_is_used_up_and_waited_for() -> None:
    outcome = simulated(requests_a_minute(window_s=60.0), rows=6000, latency=noisy(0.2))

    assert outcome.took_s < 65  # 4,800 in the first minute, the rest as the next one begins
    assert outcome.refused_share < 0.01


@pytest.mark.parametrize("tells_on_answer", [False, True])
@pytest.mark.parametrize("window_s", [1.0, 10.0])
def test_short_windows_are_used_to_their_limit(window_s: float, tells_on_answer: bool) -> None:
    outcome = simulated(
        requests_a_minute(window_s=window_s),
        rows=4000,
        tells_on_answer=tells_on_answer,
        latency=noisy(0.2),
    )

    assert outcome.per_s >= 0.95 * SUM_PER_S
    assert outcome.refused_share < 0.01


@pytest.mark.parametrize("hint", ["exact", "retry-after", "none"])
def test_the_strictest_pace_is_learned_too(hint: str) -> None:
    outcome = simulated(requests_a_minute(burst_s=0.1), rows=6000, style="silent", hint=hint)

    assert outcome.per_s >= 0.90 * SUM_PER_S
    assert outcome.refused_share < 0.01


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hint", ["exact", "stated", "retry-after", "none"])
def test_without_headers_limits_are_learned_from_refusals(hint: str, seed: int) -> None:
    outcome = simulated(
        requests_a_minute(), rows=3000, style="silent", hint=hint, seed=seed, latency=noisy(0.2)
    )

    assert outcome.per_s >= 0.90 * SUM_PER_S
    assert outcome.refused_share < 0.02


def test_a_spent_and_an_invalid_key_cost_a_few_calls_and_the_others_go_on() -> None:
    lost = {"key 1": VerdictKind.EXHAUSTED, "key 2": VerdictKind.RETIRED}
    outcome = simulated(requests_a_minute(), lost=lost)

    assert outcome.per_s >= 0.97 * SUM_PER_S / 2
    assert outcome.refused_share < 0.01


def test_a_key_that_is_added_in_the_middle_is_used_to_its_limit_too() -> None:
    keys = entries(4)
    pool = KeyPool(keys[:3], adaptive=True)
    simulation = Simulation(pool, Server({key.name: [Limit(RPM)] for key in keys}))
    simulation.at(10.0, lambda: pool.replace(keys))
    outcome = simulation.run(ROWS)

    assert outcome.by_key["key 3"] >= 0.97 * (outcome.took_s - 10) * RPM / 60
    assert outcome.refused_share < 0.01


def test_refusals_that_no_limit_explains_do_not_slow_a_key_down_for_good() -> None:
    chance = random.Random(1)
    outcome = simulated(
        lambda: [Limit(3600), Limit(1_000_000, unit="tokens")],
        rows=8000,
        refuses_oddly=lambda: chance.random() < 0.01,
    )

    assert outcome.per_s >= 0.6 * 4 * 3600 / 60


def test_keys_of_one_organization_share_its_limit() -> None:
    keys = entries(4, organization="org-1")
    shared = [Limit(RPM)]
    server = Server({key.name: shared for key in keys})
    outcome = Simulation(KeyPool(keys), server).run(500)

    assert outcome.per_s >= 0.97 * RPM / 60
    assert outcome.refused_share < 0.01
    assert len(outcome.by_key) == 4


def test_keys_that_share_a_limit_and_do_not_say_so_are_refused_seldom() -> None:
    keys = entries(2)
    shared = [Limit(2 * RPM)]
    server = Server({key.name: shared for key in keys}, latency=noisy(0.2))
    outcome = Simulation(KeyPool(keys, adaptive=True), server).run(ROWS)

    assert outcome.per_s >= 0.95 * 2 * RPM / 60
    assert outcome.refused_share < 0.05


def test_a_chosen_number_of_calls_goes_as_soon_as_no_limit_was_told() -> None:
    outcome = Simulation(KeyPool(entries(1)), Server(style="silent"), most=200).run(4000)

    assert outcome.took_s < 4000 / 200 * 0.2 + 2 * 0.25


def test_limits_that_the_entry_tells_are_kept_without_a_refusal() -> None:
    keys = [KeyEntry("a", Secret("sk-a"), rpm=600, concurrency=3)]
    server = Server({"a": [Limit(600)]}, style="silent")
    outcome = Simulation(KeyPool(keys), server).run(300)

    assert outcome.per_s >= 0.95 * 10
    assert outcome.refused == 0
    assert outcome.most_in_flight <= 3


def test_a_thousand_keys_serve_twenty_minutes_at_their_limits() -> None:
    """Half of the keys serve one call a minute, half of them three."""
    keys = entries(1000)
    limits = {key.name: [Limit(3 if n % 2 else 1, burst_s=60)] for n, key in enumerate(keys)}
    simulation = Simulation(KeyPool(keys), Server(limits), most=4096)
    outcome = simulation.run(1000 * 2 * 20)

    assert outcome.took_s < 1.03 * 20 * 60
    assert outcome.refused_share < 0.08  # nothing is known of a key before its first call
    assert min(outcome.by_key[key.name] for key in keys[1::2]) > 50
