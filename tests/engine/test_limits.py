from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.engine.limits import LONGEST_WAIT_S, parse_wait

NOON = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "9000", "retry-after": "3"}, 9.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, None),
        ({"retry-after": "999999999"}, LONGEST_WAIT_S),
        ({"x-ratelimit-reset-requests": "12ms"}, 0.012),
        ({"x-ratelimit-reset-requests": "1.5s"}, 1.5),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "1h2m3s"}, 3723.0),
        ({"x-ratelimit-reset-tokens": "45"}, 45.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"anthropic-ratelimit-requests-reset": "2023-11-14T22:13:30Z"}, 10.0),
        ({}, None),
    ],
)
def test_headers_name_the_wait(headers: dict[str, str], wait_s: float | None) -> None:
    assert parse_wait(headers, "", NOON) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("message", "wait_s"),
    [
        ("Limit 3, Used 3, Requested 1. Please try again in 20s. Visit ...", 20.0),
        ("Please try again in 9.816s.", 9.816),
        ("try again in 120ms", 0.12),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1h2m3.5s", 3723.5),
        ("Please retry after 86400 seconds.", 86_400.0),
        ("Try again in 2 minutes and bring tea", 120.0),
        ("Please retry in 38.2s or so", 38.2),
        ("Try again later", None),
        ("Your 20s video is too long", None),
        ("Please try again in 0s", None),
    ],
)
def test_a_message_names_the_wait(message: str, wait_s: float | None) -> None:
    assert parse_wait({}, message, NOON) == pytest.approx(wait_s)


def test_the_longest_of_the_named_waits_counts() -> None:
    assert parse_wait({"retry-after": "2"}, "try again in 20s", NOON) == 20.0


def test_the_time_until_the_bucket_is_full_counts_only_if_no_wait_is_named() -> None:
    headers = {"retry-after-ms": "800", "x-ratelimit-reset-tokens": "45s"}

    assert parse_wait(headers, "", NOON) == 0.8


def test_a_header_that_is_no_text_says_nothing() -> None:
    class Broken(dict[str, str]):
        def get(self, *_: object) -> str:  # as pyreqwest does
            raise ValueError("failed to convert header to a str")

    assert parse_wait(Broken(), "", NOON) is None


@given(st.text(), st.text())
def test_whatever_a_server_says_the_wait_is_sane(value: str, message: str) -> None:
    headers = {"retry-after": value, "retry-after-ms": value, "x-ratelimit-reset-tokens": value}
    wait_s = parse_wait(headers, message, NOON)

    assert wait_s is None or 0 < wait_s <= LONGEST_WAIT_S


@given(st.integers(0, 20), st.integers(0, 59), st.integers(1, 59_999))
def test_go_durations_are_read_as_written(hours: int, minutes: int, millis: int) -> None:
    text = f"{hours}h{minutes}m{millis / 1000}s"
    expected = hours * 3600 + minutes * 60 + millis / 1000

    wait_s = parse_wait({"x-ratelimit-reset-requests": text}, "", NOON)

    assert wait_s is not None
    assert math.isclose(wait_s, expected)
