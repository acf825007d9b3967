"""What calls brought that left with about as many in flight."""

from __future__ import annotations

import math


class Measured:
    """Latencies and loads of answers.

    Throughput is calls in flight over their mean latency (Little's law), which needs fewer
    answers than counting over time.
    """

    __slots__ = ("calls", "latency_s", "load", "square")

    def __init__(self) -> None:
        self.calls = self.latency_s = self.square = self.load = 0.0

    def count(self, latency_s: float, load: int) -> None:
        """Adds an answer."""
        self.calls += 1
        self.latency_s += latency_s
        self.square += latency_s * latency_s
        self.load += load

    def add(self, other: Measured, memory: float = 1.0) -> None:
        """Adds newer measurements; `memory` is the share that is kept of the older ones."""
        self.calls = self.calls * memory + other.calls
        self.latency_s = self.latency_s * memory + other.latency_s
        self.square = self.square * memory + other.square
        self.load = self.load * memory + other.load

    def copy(self) -> Measured:
        """The same, which does not change any more."""
        same = Measured()
        same.add(self)
        return same

    @property
    def mean_s(self) -> float:
        """Latency. There has to be an answer."""
        return self.latency_s / self.calls

    @property
    def mean_load(self) -> float:
        """Calls in flight. There has to be an answer."""
        return self.load / self.calls

    @property
    def per_s(self) -> float:
        """Throughput."""
        return self.load / self.latency_s if self.latency_s > 0 else math.inf

    @property
    def doubt(self) -> float:
        """The standard error of the throughput, as a share of it."""
        if self.calls < 2 or self.latency_s <= 0:
            return 1.0
        mean = self.latency_s / self.calls
        variance = max(self.square / self.calls - mean * mean, 0.0)
        return math.sqrt(variance / self.calls) / mean

    def gain_over(self, other: Measured) -> float:
        """How much more throughput this is, as a logarithm."""
        here, there = self.latency_s * other.load, other.latency_s * self.load
        return math.log(there / here) if here > 0 and there > 0 else 0.0

    def apart_from(self, other: Measured) -> float:
        """How much larger this load is, as a logarithm."""
        return math.log(self.mean_load / other.mean_load)

    def doubt_with(self, other: Measured) -> float:
        """The standard error of the gain."""
        return math.hypot(self.doubt, other.doubt)
