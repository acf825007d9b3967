from __future__ import annotations

import json
from typing import Any

import pytest

from gptflow.mock.answer import Answer, Incoming
from gptflow.mock.scenario import Scenario
from gptflow.mock.simulator import Simulator


class Asking:
    """A simulator whose clock stands still unless it is moved."""

    def __init__(self, **scenario: Any) -> None:
        self.now_s = 1000.0
        self._simulator = Simulator(Scenario.model_validate(scenario), self.now_s)

    def __call__(
        self, user: str = "x", key: str = "sk-one", others: int = 0, **body: Any
    ) -> Answer:
        question = {"model": "m", "messages": [{"role": "user", "content": user}], **body}
        incoming = Incoming("POST", "/v1/chat/completions", key, json.dumps(question).encode())
        return self._simulator.answer(incoming, self.now_s, 1_700_000_000.0, others)

    def failures(self, users: list[str], key: str = "sk-one") -> list[str | None]:
        return [self(user, key).failure for user in users]


def test_a_rule_without_conditions_fails_everything() -> None:
    assert Asking(failures=[{"name": "server_500"}]).failures(["a", "b"]) == ["server_500"] * 2


def test_first_and_after_cut_out_a_stretch_of_requests() -> None:
    ask = Asking(failures=[{"name": "server_500", "after": 2, "first": 2}])
    assert ask.failures(list("abcdef")) == [None, None, "server_500", "server_500", None, None]


def test_first_counts_only_what_the_other_conditions_let_through() -> None:
    ask = Asking(failures=[{"name": "hang", "first": 1, "match": "bad", "key": "sk-two"}])
    assert ask.failures(["bad"], key="sk-one") == [None]
    assert ask.failures(["good", "bad", "bad"], key="sk-two") == [None, "hang", None]


def test_attempts_fail_each_distinct_request_so_often() -> None:
    ask = Asking(failures=[{"name": "server_500", "attempts": 2}])
    assert ask.failures(list("aaabbb")) == ["server_500", "server_500", None] * 2


def test_attempts_of_different_requests_may_come_mixed() -> None:
    ask = Asking(failures=[{"name": "server_500", "attempts": 1}])
    assert ask.failures(list("abba")) == ["server_500", "server_500", None, None]


def test_the_first_rule_that_holds_counts() -> None:
    ask = Asking(failures=[{"name": "hang", "first": 1}, {"name": "server_500", "first": 2}])
    assert ask.failures(list("abcd")) == ["hang", "server_500", "server_500", None]


def test_shares_are_met_and_add_up() -> None:
    ask = Asking(failures={"server_500": "20%", "hang": "10%"})
    found = ask.failures([str(number) for number in range(4000)])
    assert found.count("server_500") / 4000 == pytest.approx(0.2, abs=0.03)
    assert found.count("hang") / 4000 == pytest.approx(0.1, abs=0.03)


def test_failures_by_share_depend_on_the_request_and_not_on_the_order() -> None:
    users = [str(number) for number in range(300)]
    one, other = (Asking(failures={"server_500": "30%"}, seed=5) for _ in range(2))
    assert one.failures(users) == other.failures(users[::-1])[::-1]
    assert one.failures(users) != Asking(failures={"server_500": "30%"}, seed=6).failures(users)


def test_the_same_request_fails_by_its_share_when_it_is_repeated() -> None:
    found = Asking(failures={"server_500": "25%"}).failures(["same"] * 2000)
    assert found.count("server_500") / 2000 == pytest.approx(0.25, abs=0.04)


def test_requests_per_minute_are_enforced_and_come_back() -> None:
    ask = Asking(keys={"sk-one": {"rpm": 2}})
    assert ask.failures(["a", "b", "c"]) == [None, None, "rate_limit_rpm"]
    assert dict(ask("d").headers)[b"retry-after-ms"] == b"30000"
    assert b"Limit 2, Used 2, Requested 1. Please try again in 30s." in ask("d").body
    ask.now_s += 30
    assert ask.failures(["e", "f"]) == [None, "rate_limit_rpm"]


def test_keys_of_one_organization_share_their_limit() -> None:
    shared = {"rpm": 2, "organization": "org-a"}
    ask = Asking(keys={"sk-one": shared, "sk-two": shared, "sk-three": {"rpm": 1}})
    assert ask.failures(["a", "b"], key="sk-one") == [None, None]
    assert ask("c", key="sk-two").failure == "rate_limit_rpm"
    assert b"organization org-a" in ask("c", key="sk-two").body
    assert ask("c", key="sk-three").failure is None


def test_tokens_count_by_prompt_or_max_tokens_whichever_is_more() -> None:
    ask = Asking(keys={"sk-one": {"tpm": 100}})
    assert dict(ask("x" * 120).headers)[b"x-ratelimit-remaining-tokens"] == b"70"
    assert dict(ask("x", max_tokens=60).headers)[b"x-ratelimit-remaining-tokens"] == b"10"
    assert ask("x" * 80).failure == "rate_limit_tpm"


def test_a_request_beyond_the_whole_limit_is_too_large() -> None:
    ask = Asking(keys={"sk-one": {"tpm": 100}})
    assert ask("x", max_tokens=101).failure == "request_too_large"
    assert b"Limit 100, Requested 101." in ask("x", max_tokens=101).body


def test_a_refused_request_costs_nothing() -> None:
    ask = Asking(keys={"sk-one": {"rpm": 10, "tpm": 20}})
    ask("x", max_tokens=20)
    refused = [ask("x", max_tokens=20).failure for _ in range(20)]
    assert refused == ["rate_limit_tpm"] * 20
    ask.now_s += 60
    assert ask("x", max_tokens=20).failure is None


def test_an_answer_tells_what_is_left_of_the_limits() -> None:
    headers = dict(Asking(keys={"sk-one": {"rpm": 60, "tpm": 6000}})("x" * 400).headers)
    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-remaining-requests"] == b"59"
    assert headers[b"x-ratelimit-reset-requests"] == b"1s"
    assert headers[b"x-ratelimit-limit-tokens"] == b"6000"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"5900"


@pytest.mark.parametrize(
    ("failure", "is_told"), [("empty_content", True), ("nan_value", True), ("server_500", False)]
)
def test_a_wrong_answer_tells_what_is_left_and_an_error_does_not(
    failure: str, is_told: bool
) -> None:
    ask = Asking(keys={"sk-one": {"rpm": 60}}, failures=[{"name": failure}])
    assert (b"x-ratelimit-remaining-requests" in dict(ask().headers)) == is_told


def test_a_rate_limit_by_a_rule_speaks_of_the_keys_own_limit() -> None:
    limited = {"sk-one": {"rpm": 60, "tpm": 9000}}
    for failure, limit in (("rate_limit_rpm", b"Limit 60"), ("rate_limit_tpm", b"Limit 9000")):
        ask = Asking(keys=limited, failures=[{"name": failure}])
        assert limit in ask(key="sk-one").body
        assert b"Limit 500" in ask(key="sk-two").body


def test_burst_is_how_much_may_be_spent_at_once() -> None:
    ask = Asking(keys={"sk-one": {"rpm": 600, "burst": "1s"}})
    assert ask.failures(["x"] * 11) == [None] * 10 + ["rate_limit_rpm"]


def test_whoever_waits_as_long_as_told_is_served() -> None:
    ask = Asking(keys={"sk-one": {"rpm": 77, "burst": "1s"}})
    for _ in range(200):
        answer = ask()
        if answer.failure:
            ask.now_s += int(dict(answer.headers)[b"retry-after-ms"]) / 1000
            assert ask().failure is None


def test_a_fixed_window_comes_back_all_at_once() -> None:
    ask = Asking(keys={"sk-one": {"rpm": 3, "window": "fixed"}})
    assert ask.failures(["x"] * 4) == [None] * 3 + ["rate_limit_rpm"]
    ask.now_s += 59
    assert ask.failures(["x"]) == ["rate_limit_rpm"]
    assert dict(ask().headers)[b"retry-after-ms"] == b"1000"
    ask.now_s += 1
    assert ask.failures(["x"] * 4) == [None] * 3 + ["rate_limit_rpm"]


@pytest.mark.parametrize(("per", "status"), [("model", 200), ("key", 429)])
def test_models_have_allowances_of_their_own_or_share_one(per: str, status: int) -> None:
    ask = Asking(keys={"sk-one": {"rpm": 60, "burst": "1s", "per": per}})
    assert ask("x", model="small").status == 200
    assert ask("x", model="small").status == 429
    assert ask("x", model="large").status == status


def test_a_fixed_window_tells_when_it_ends_and_can_be_short() -> None:
    ask = Asking(keys={"sk-one": {"rpm": 60, "tpm": 6000, "window": "fixed", "burst": "10s"}})
    ask.now_s += 34
    headers = dict(ask("x", max_tokens=400).headers)
    assert headers[b"x-ratelimit-reset-requests"] == b"6s"
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"600"


def _limited(**rule: Any) -> tuple[dict[bytes, bytes], Answer]:
    """The headers of the answer that uses a limit up, and the refusal after it."""
    ask = Asking(keys={"sk-one": {"rpm": 1, **rule}})
    return dict(ask().headers), ask()


def test_limits_need_not_be_told() -> None:
    headers, refusal = _limited(headers="none")
    assert headers.keys() == {b"content-type"}
    assert dict(refusal.headers).keys() == {b"content-type"}
    assert (refusal.status, refusal.failure) == (429, "rate_limit_silent")


@pytest.mark.parametrize(
    ("dialect", "remaining", "reset", "reset_value"),
    [
        ("openai", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests", b"1m0s"),
        ("azure", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests", b"60"),
        (
            "anthropic",
            b"anthropic-ratelimit-requests-remaining",
            b"anthropic-ratelimit-requests-reset",
            b"2023-11-14T22:14:20.000Z",
        ),
    ],
)
def test_limits_are_told_in_the_dialect_of_a_provider(
    dialect: str, remaining: bytes, reset: bytes, reset_value: bytes
) -> None:
    headers, refusal = _limited(headers=dialect)
    assert (headers[remaining], headers[reset]) == (b"0", reset_value)
    told = dict(refusal.headers)
    assert (told[remaining], told[b"retry-after"]) == (b"0", b"60")


@pytest.mark.parametrize(
    ("dialect", "wait", "in_header", "in_message"),
    [
        ("openai", None, True, True),
        ("openai", "both", True, True),
        ("openai", "header", True, False),
        ("openai", "message", False, True),
        ("openai", "none", False, False),
        ("azure", None, True, True),
        ("azure", "message", False, True),
        ("anthropic", None, True, False),
        ("anthropic", "message", False, True),
        ("none", None, False, False),
        ("none", "header", True, False),
        ("none", "message", False, True),
        ("none", "both", True, True),
    ],
)
def test_a_refusal_names_the_wait_where_the_scenario_says(
    dialect: str, wait: str | None, in_header: bool, in_message: bool
) -> None:
    _, refusal = _limited(headers=dialect, wait=wait)
    assert refusal.status == 429
    assert (b"retry-after" in dict(refusal.headers)) is in_header
    message = json.loads(refusal.body)["error"]["message"]
    assert any(told in message for told in ("in 1m0s", "after 60 seconds")) is in_message


def test_a_refusal_for_tokens_tells_what_is_left_of_both_limits() -> None:
    ask = Asking(keys={"sk-one": {"rpm": 10, "tpm": 100}})
    ask("x", max_tokens=70)
    headers = dict(ask("x", max_tokens=70).headers)
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"30"


def test_a_rule_may_hold_for_a_stretch_of_time_from_the_first_request_on() -> None:
    rule = {"name": "insufficient_quota", "key": "sk-one", "at": "5s", "lasts": "10s"}
    ask = Asking(failures=[rule])
    ask.now_s += 100
    found = {}
    for second in (0, 4, 5, 14, 15, 60):
        ask.now_s = 1100.0 + second
        found[second] = ask().failure
    spent = "insufficient_quota"
    assert found == {0: None, 4: None, 5: spent, 14: spent, 15: None, 60: None}


def test_a_rule_may_end_with_a_time_or_never() -> None:
    ask = Asking(failures=[{"name": "hang", "lasts": "1s"}, {"name": "server_500", "at": "2s"}])
    found = [ask().failure]
    for _ in range(3):
        ask.now_s += 1
        found.append(ask().failure)
    assert found == ["hang", None, "server_500", "server_500"]


@pytest.mark.parametrize(
    ("shape", "throughput"),
    [
        ("queue", {1: 10, 16: 160, 32: 160, 160: 160}),
        ("batch", {1: 10, 17: 85, 161: 146}),
        ("collapse", {1: 10, 16: 160, 32: 80, 160: 16}),
    ],
)
def test_a_server_slows_down_under_load(shape: str, throughput: dict[int, int]) -> None:
    ask = Asking(latency="100ms", slowdown={"capacity": 16, "shape": shape})
    found = {n: n / ask(others=n - 1).latency_s for n in throughput}
    assert found == pytest.approx(throughput, rel=0.01)


def test_a_slow_server_fails_slowly_too_but_refuses_at_once() -> None:
    slow: dict[str, Any] = {"latency": "100ms", "slowdown": 2}
    assert Asking(**slow, failures={"server_500": 1})(others=7).latency_s == pytest.approx(0.4)
    assert Asking(**slow, failures={"rate_limit_rpm": 1})(others=7).latency_s == 0


def test_load_stretches_the_noise_of_the_latency() -> None:
    ask = Asking(latency={"median": "200ms", "p95": "900ms"}, slowdown=4)
    drawn = sorted(ask(others=15).latency_s for _ in range(500))
    assert drawn[250] == pytest.approx(0.8, rel=0.2)
    assert drawn[475] == pytest.approx(3.6, rel=0.3)


def test_what_is_above_the_concurrency_is_refused() -> None:
    ask = Asking(concurrency=2)
    assert ask(others=1).failure is None
    assert ask(others=2).failure == "overloaded_503"
    strict = Asking(concurrency={"in_flight": 1, "failure": "rate_limit_silent"})
    assert strict(others=1).status == 429


def test_latencies_are_drawn_from_the_seed() -> None:
    drawn = [
        [ask("x").latency_s for _ in range(500)]
        for ask in (Asking(latency={"median": "200ms", "p95": "900ms"}, seed=3) for _ in range(2))
    ]
    assert drawn[0] == drawn[1]
    assert sorted(drawn[0])[250] == pytest.approx(0.2, rel=0.2)
    assert sorted(drawn[0])[475] == pytest.approx(0.9, rel=0.3)


def test_uniform_latencies_stay_between_their_ends() -> None:
    ask = Asking(latency={"uniform": ["10ms", "80ms"]})
    latencies_s = [ask().latency_s for _ in range(200)]
    assert 0.01 <= min(latencies_s) < 0.03
    assert 0.06 < max(latencies_s) <= 0.08
