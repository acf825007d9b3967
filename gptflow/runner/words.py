"""Numbers as a person reads them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with what it counts: 1 row, 2,000 rows."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def token_count(tokens: int) -> str:
    """A number of tokens, shortened: 950, 412k, 3.1M."""
    if tokens < 10_000:
        return f"{tokens:,}"
    if tokens < 999_500:
        return f"{tokens / 1000:.0f}k"
    return f"{tokens / 1_000_000:.1f}M"


def money(usd: float) -> str:
    """A price, with as many digits as say something."""
    if 0 < usd < 0.0005:
        return "under $0.001"
    return f"${usd:,.2f}" if usd >= 0.9995 else f"${usd:.3f}"
