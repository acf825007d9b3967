"""Chance that only the request decides: the same request draws the same, whenever it comes."""

from __future__ import annotations

import hashlib


def draw_number(seed: int, digest: bytes, purpose: str, time: int = 0) -> int:
    """A number below 2^64. `time`: how often the same request has drawn for this before."""
    told = b"%d %d %s " % (seed, time, purpose.encode())
    return int.from_bytes(hashlib.blake2b(told + digest, digest_size=8).digest())


def draw_fraction(seed: int, digest: bytes, purpose: str, time: int = 0) -> float:
    """A fraction from 0 up to but not including 1."""
    return (draw_number(seed, digest, purpose, time) >> 11) * 2.0**-53
