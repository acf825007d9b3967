"""How quick the simulated server is: alone, under load, and when it is not there at all."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from statistics import NormalDist
from typing import Literal

from pydantic import Field, model_validator

from gptflow.mock.part import Duration, FailureName, ScenarioPart, require_one

_P95_SIGMAS = NormalDist().inv_cdf(0.95)


class Latency(ScenarioPart):
    """How long an answer takes: a duration, `{uniform: [a, b]}`, or `{median, p95}`."""

    fixed: Duration | None = Field(default=None, description="Always this long.")
    uniform: tuple[Duration, Duration] | None = Field(
        default=None, description="Anything from the first to the second, equally likely."
    )
    median: Duration | None = Field(
        default=None, gt=0, description="Half of the answers come sooner (log-normal)."
    )
    p95: Duration | None = Field(
        default=None, description="19 of 20 answers come sooner; beside `median`."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_duration(cls, value: object) -> object:
        return value if isinstance(value, Mapping | Latency) else {"fixed": value}

    @model_validator(mode="after")
    def _one_kind(self) -> Latency:
        require_one(self, "fixed", "uniform", "median")
        if (self.median is None) != (self.p95 is None):
            raise ValueError("median and p95 belong together")
        if self.median is not None and self.p95 is not None and self.p95 < self.median:
            raise ValueError("p95 is below the median")
        return self

    def draw(self, source: random.Random) -> float:
        """Seconds for one answer."""
        if self.fixed is not None:
            return self.fixed
        if self.uniform is not None:
            return source.uniform(*self.uniform)
        assert self.median is not None  # _one_kind
        assert self.p95 is not None
        sigma = math.log(self.p95 / self.median) / _P95_SIGMAS
        return self.median * math.exp(sigma * source.gauss())


class Slowdown(ScenarioPart):
    """How a server slows down under load: `{capacity, shape}`, or the capacity alone."""

    capacity: int = Field(ge=1, description="The requests in flight that the shape is about.")
    shape: Literal["queue", "batch", "collapse"] = Field(
        default="queue",
        description="queue: what is above the capacity waits its turn, and throughput stays. "
        "batch: each request slows all others a little, as in vLLM, and at the capacity all take "
        "twice as long. collapse: above the capacity throughput falls again.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: object) -> object:
        return value if isinstance(value, Mapping | Slowdown) else {"capacity": value}

    def factor(self, in_flight: int) -> float:
        """How many times its latency a request takes that is one of so many."""
        load = in_flight / self.capacity
        match self.shape:
            case "queue":
                return max(1.0, load)
            case "batch":
                return 1.0 + (in_flight - 1) / self.capacity
            case "collapse":
                return max(1.0, load) ** 2


class Concurrency(ScenarioPart):
    """How many requests may be in flight: a number, or this."""

    in_flight: int = Field(ge=1, description="So many are served at a time.")
    failure: FailureName = Field(
        default="overloaded_503", description="How the ones above that are refused."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: object) -> object:
        return value if isinstance(value, Mapping | Concurrency) else {"in_flight": value}


class Outage(ScenarioPart):
    """A stretch of time in which nobody listens: connections break, and new ones are refused."""

    at: Duration = Field(description="When it begins, counted from the first request.")
    lasts: Duration = Field(gt=0, description="How long it takes.")
