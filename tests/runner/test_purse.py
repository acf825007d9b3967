from __future__ import annotations

from typing import Any

import pytest

from gptflow.records import Call, Reply, Usage
from gptflow.runner.price import Price
from gptflow.runner.purse import FIRST_COMPLETION_TOKENS, Purse, Room, untold
from gptflow.store.record import ModelUsage

PRICE = Price(input_usd=0.001, output_usd=0.01, cached_usd=0.0001)
PROMPT_TOKENS = 4 + 25
"""Of a message of a hundred characters, as they are estimated."""


def call(step: str = "label", **params: Any) -> Call:
    return Call(b"k" * 16, step, "m", [{"role": "user", "content": "x" * 100}], params)


def reply(
    prompt: int | None, completion: int | None, cached: int | None = None, text: str = ""
) -> Reply:
    return Reply(text, "stop", Usage(prompt, completion, cached), "m", b"")


def make_purse(limit_usd: float = 1.0, spent_usd: float = 0.0) -> Purse:
    before = ModelUsage("m", 10, 0, round(spent_usd * 100), None)
    return Purse(limit_usd, {"m": PRICE}, [before] if spent_usd else [])


# ------------------------------------------------------------------ what a call may cost


@pytest.mark.parametrize(
    ("params", "tokens"),
    [
        ({}, FIRST_COMPLETION_TOKENS),
        ({"max_tokens": 20}, 20),
        ({"max_completion_tokens": 30}, 30),
        ({"max_tokens": 20, "n": 3}, 60),
        ({"max_tokens": 100_000}, FIRST_COMPLETION_TOKENS),
    ],
)
def test_before_any_reply_max_tokens_bounds_a_guess(params: dict[str, Any], tokens: int) -> None:
    purse = make_purse()
    expected = 0.001 * PROMPT_TOKENS + 0.01 * tokens
    assert purse.expected_usd(purse.quote(call(**params))) == pytest.approx(expected)


def test_replies_to_a_step_tell_what_its_next_one_may_cost() -> None:
    purse = make_purse()
    quote = purse.quote(call())
    purse.pay(quote, reply(prompt=58, completion=10))
    purse.pay(quote, reply(prompt=58, completion=30))
    assert purse.expected_usd(quote) == pytest.approx(0.001 * 58 + 0.01 * 20)
    other = purse.quote(call("other"))
    assert purse.expected_usd(other) > 0.01 * FIRST_COMPLETION_TOKENS
    assert purse.expected_usd(purse.quote(call(max_tokens=5))) == pytest.approx(0.058 + 0.05)


def test_what_earlier_commands_have_seen_is_the_first_guess() -> None:
    purse = Purse(9.0, {"m": PRICE}, [ModelUsage("m", 10, 2000, 70, 1000)])
    assert purse.spent_usd == pytest.approx(1.0 + 0.1 + 0.7)
    expected = 0.001 * PROMPT_TOKENS + 0.01 * 7
    assert purse.expected_usd(purse.quote(call())) == pytest.approx(expected)


def test_a_reply_pays_what_the_server_counted_cached_tokens_at_their_price() -> None:
    purse = make_purse(spent_usd=0.5)
    assert purse.spent_usd == pytest.approx(0.5)
    purse.pay(purse.quote(call()), reply(prompt=100, completion=10, cached=80))
    assert purse.spent_usd == pytest.approx(0.5 + 0.02 + 0.008 + 0.1)


def test_what_the_server_does_not_count_is_estimated() -> None:
    purse = make_purse()
    purse.pay(purse.quote(call()), reply(None, None, text="y" * 40))
    assert purse.spent_usd == pytest.approx(0.001 * PROMPT_TOKENS + 0.01 * 10)


@pytest.mark.parametrize(
    ("answer", "estimated"),
    [
        (reply(None, None, text="y" * 40), Usage(PROMPT_TOKENS, 10)),
        (reply(7, None, text="y" * 40), Usage(0, 10)),
        (reply(None, 3), Usage(PROMPT_TOKENS, 0)),
        (reply(0, 0), None),
    ],
)
def test_the_next_command_knows_what_was_estimated(answer: Reply, estimated: Usage | None) -> None:
    assert untold(call(), answer) == estimated
    paid = make_purse()
    paid.pay(paid.quote(call()), answer)
    told = ModelUsage("m", 1, answer.usage.prompt_tokens, answer.usage.completion_tokens, None)
    purse = Purse(1.0, {"m": PRICE}, [told], {"m": estimated} if estimated else {})
    assert purse.spent_usd == pytest.approx(paid.spent_usd)


def test_counts_that_cannot_be_true_give_no_money_back() -> None:
    purse = make_purse()
    purse.pay(purse.quote(call()), reply(prompt=-5, completion=-5, cached=7))
    assert purse.spent_usd == 0


# ------------------------------------------------------------------ room


def test_there_is_room_up_to_the_last_cent() -> None:
    purse = make_purse(1.0, spent_usd=0.5)
    assert purse.room(0.5) is Room.FREE
    assert purse.room(0.51) is Room.NONE


def test_what_is_reserved_makes_others_wait_and_is_given_back() -> None:
    purse = make_purse()
    purse.reserve(0.6)
    assert purse.room(0.4) is Room.FREE
    assert purse.room(0.5) is Room.LATER
    assert purse.room(1.1) is Room.NONE
    purse.give_back(0.6)
    assert purse.room(0.5) is Room.FREE


def test_with_no_call_in_flight_nobody_is_told_to_wait() -> None:
    purse = make_purse(0.3)
    for _ in range(10_000):  # so many sums of floats leave a rest, if they are let
        for usd in (0.1, 0.2, 0.1 / 3):
            purse.reserve(usd)
        for usd in (0.2, 0.1 / 3, 0.1):
            purse.give_back(usd)
    assert purse.room(0.3) is Room.FREE


def test_what_is_free_fits_into_an_empty_purse() -> None:
    purse = Purse(0.0, {"m": Price(0.0, 0.0, 0.0)})
    assert purse.room(purse.expected_usd(purse.quote(call()))) is Room.FREE


@pytest.mark.parametrize(("share", "price"), [(1.0, PRICE), (0.5, PRICE.times(0.5))])
def test_what_a_batch_has_spent_is_counted_by_half_in_every_mode(
    share: float, price: Price
) -> None:
    before = ModelUsage("m", 10, 3000, 30, None)
    batched = {"m": Usage(1000, 10, 0)}
    purse = Purse(9.0, {"m": price}, [before], discounted=batched, share=share)
    assert purse.spent_usd == pytest.approx((2.0 + 0.2) + (1.0 + 0.1) / 2)


def test_what_is_kept_for_a_batch_is_given_back_at_once() -> None:
    purse = make_purse()
    purse.reserve(0.3)
    purse.reserve(0.3)
    purse.give_back(0.6, calls=2)
    assert purse.reserved_usd == 0
    assert purse.room(0.9) is Room.FREE
