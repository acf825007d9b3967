"""How long to wait before the next try: twice as long each time, up to a longest wait."""

from __future__ import annotations

_MOST_DOUBLINGS = 64
"""More than any wait needs. A float bursts after 1,023, which a key that rests for days can see."""


def doubled(first_s: float, times: int, longest_s: float) -> float:
    """`first_s` doubled so many times, but at most `longest_s`."""
    return min(first_s * 2.0 ** min(times, _MOST_DOUBLINGS), longest_s)
