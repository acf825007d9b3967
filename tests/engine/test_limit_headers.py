from __future__ import annotations

import pytest

from gptflow.engine.limit_headers import LimitReader, Told

NOON = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def read(**headers: str) -> list[Told]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return LimitReader().read(named, 0.0, lambda: NOON)


@pytest.mark.parametrize(
    ("reset", "reset_s"),
    [
        ("12ms", 0.012),
        ("1.5s", 1.5),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("45", 45.0),
        ("0s", 0.0),
        ("2023-11-14T22:13:30Z", 10.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("1700000060", 60.0),
        ("1700000060000", 60.0),
        ("soon", None),
        ("-1", None),
    ],
)
def test_the_reset_is_read_in_all_its_formats(reset: str, reset_s: float | None) -> None:
    (told,) = read(
        x_ratelimit_limit_requests="60",
        x_ratelimit_remaining_requests="59",
        x_ratelimit_reset_requests=reset,
    )

    assert (told.unit, told.limit, told.remaining) == ("requests", 60.0, 59.0)
    assert told.reset_s == pytest.approx(reset_s)


def test_requests_and_tokens_are_told_beside_each_other() -> None:
    told = read(
        x_ratelimit_limit_requests="60",
        x_ratelimit_remaining_requests="59",
        x_ratelimit_limit_tokens="90000",
        x_ratelimit_remaining_tokens="80000",
        x_ratelimit_reset_tokens="6s",
    )

    assert told == [Told("requests", 60, 59, None), Told("tokens", 90_000, 80_000, 6.0)]


def test_anthropic_tells_tokens_that_go_in_and_out() -> None:
    told = read(
        anthropic_ratelimit_input_tokens_limit="50000",
        anthropic_ratelimit_input_tokens_remaining="49000",
        anthropic_ratelimit_output_tokens_limit="10000",
        anthropic_ratelimit_output_tokens_remaining="9000",
        anthropic_ratelimit_output_tokens_reset="2023-11-14T22:13:26Z",
    )

    assert told == [
        Told("input-tokens", 50_000, 49_000, None),
        Told("output-tokens", 10_000, 9_000, 6.0),
    ]


@pytest.mark.parametrize("remaining", ["-1", "", "many", "nan", "inf"])
def test_what_is_no_amount_tells_nothing(remaining: str) -> None:
    assert read(x_ratelimit_limit_requests="60", x_ratelimit_remaining_requests=remaining) == []


def test_a_gateway_with_plain_names_is_understood() -> None:
    assert read(ratelimit_limit="100, 100;w=60", ratelimit_remaining="7", ratelimit_reset="9") == [
        Told("requests", 100, 7, 9.0)
    ]


def test_a_server_that_tells_nothing_is_looked_at_ever_less_often() -> None:
    looks = 0

    class Counting(dict[str, str]):
        def get(self, *_: object) -> None:  # type: ignore[override]  # tells nothing
            nonlocal looks
            looks += 1

    reader = LimitReader()
    for _ in range(1000):
        reader.read(Counting(), 0.0, lambda: NOON)

    assert looks < 300


def test_a_limit_that_is_told_late_is_found() -> None:
    reader, headers = LimitReader(), {"x-ratelimit-remaining-requests": "5"}
    for _ in range(1000):
        reader.read({}, 0.0, lambda: NOON)
    told = [reader.read(headers, 0.0, lambda: NOON) for _ in range(65)]

    assert [Told("requests", None, 5.0, None)] in told
    assert reader.read(headers, 0.0, lambda: NOON, surely=True)
