"""How wide to run, and where: the `parallelism` of a spec."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from gptflow.spec.part import SpecModel

Mode = Literal["async", "thread", "process", "ray", "batch"]
"""Where the workers live."""

MODES: tuple[Mode, ...] = get_args(Mode)


class WorkersRange(SpecModel):
    """A cluster that grows and shrinks: workers are added while rows wait."""

    min: int = Field(
        ge=1, le=10_000, description="Workers to begin with, and to keep.", examples=[2]
    )
    max: int = Field(ge=1, le=10_000, description="The most workers.", examples=[16])


class RaySpec(SpecModel):
    """Which Ray cluster, and what its workers find there."""

    address: str | None = Field(
        default=None,
        description="The cluster, as ray.init takes it; without it RAY_ADDRESS, else a cluster "
        "on this machine for the time of the run.",
        examples=["auto", "ray://head:10001"],
    )
    config: str | None = Field(
        default=None,
        description="The keys' file as each node has it. Without it the keys travel to the "
        "workers over Ray's own connections, in memory.",
        examples=["/run/secrets/config.json"],
    )


class BatchSpec(SpecModel):
    """What one upload to the Batch API may hold, as the provider allows it."""

    requests: int = Field(
        default=50_000, ge=1, le=50_000, description="The most requests of one batch."
    )
    megabytes: int = Field(
        default=200, ge=1, le=200, description="The largest file of one batch, in 1,000,000 bytes."
    )
    enqueued_tokens: int | None = Field(
        default=None,
        ge=1,
        description="The most prompt tokens that may wait in batches at a time, for each model "
        "and key; the provider tells it on its limits page.",
    )
    missing_s: float = Field(
        default=300,
        ge=0,
        description="For so many seconds a batch is looked for that its provider does not find, "
        "before its calls are asked anew.",
    )


class ParallelismSpec(SpecModel):
    """How wide to run, and where."""

    mode: Mode = Field(
        default="async",
        description="Where the rows are worked on: async, one event loop; thread, several in "
        "threads; process, in processes, for more than one core's worth of rows; ray, on a Ray "
        "cluster; batch, as jobs of the Batch API, at half the price and within a day.",
    )
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field(
        default="auto",
        description="Calls in flight, of all workers together; auto finds out how many go well.",
    )
    workers: Annotated[int, Field(ge=1, le=10_000)] | WorkersRange | Literal["auto"] = Field(
        default="auto",
        description="How many threads, processes or Ray actors; auto takes one for each "
        "processor. {min: 2, max: 16} lets a Ray cluster grow. Other modes have no use for it.",
    )
    ray: RaySpec = Field(default_factory=RaySpec, description="For mode ray.")
    batch: BatchSpec = Field(default_factory=BatchSpec, description="For mode batch.")
