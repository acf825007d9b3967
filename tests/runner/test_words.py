from __future__ import annotations

import pytest

from gptflow.runner.words import counted, money, token_count


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (0, "0"),
        (950, "950"),
        (9_999, "9,999"),
        (10_000, "10k"),
        (412_345, "412k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (3_140_000, "3.1M"),
    ],
)
def test_token_counts(tokens: int, words: str) -> None:
    assert token_count(tokens) == words


@pytest.mark.parametrize(
    ("usd", "words"),
    [
        (0, "$0.000"),
        (0.0001, "under $0.001"),
        (0.0005, "$0.001"),
        (0.034, "$0.034"),
        (0.9996, "$1.00"),
        (12.345, "$12.35"),
        (1234.5, "$1,234.50"),
    ],
)
def test_prices(usd: float, words: str) -> None:
    assert money(usd) == words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_345, "12,345 rows")]
)
def test_counts(number: int, words: str) -> None:
    assert counted(number, "row") == words
