"""A batch: what it is to do, how far it is, and how the API tells that."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from gptflow.mock.batch.shelf import StoredFile
from gptflow.mock.request import Endpoint

ENDED = frozenset({"failed", "completed", "expired", "cancelled"})
"""The states that a batch never leaves."""

_MOMENTS = (
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for when a batch was created."""

    endpoint: Endpoint
    input_file_id: str
    metadata: dict[str, str] | None
    output_lasts_s: int | None
    """After that the files that it writes expire; None: never."""


class Batch(msgspec.Struct, kw_only=True):
    """A batch at work or done."""

    id: str
    owner: str
    key: str
    order: Order
    input: StoredFile | None
    """None if there is no such file, or not for this owner."""
    created_at: int
    """Unix time, as all moments are."""
    moments: dict[str, int]
    """When it comes to an end by itself, and when it came into its states."""
    status: str = "validating"
    errors: list[dict[str, Any]] = msgspec.field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    model: str | None = None
    enqueued_tokens: int = 0
    """What it counts for the limit of its organization, until it has ended."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    cancelled: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    """Set when its end was asked for."""

    @property
    def endpoint(self) -> Endpoint:
        """What all its lines ask."""
        return self.order.endpoint

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.status in ENDED

    def turn(self, status: str, unix_s: float) -> None:
        """Come into a state. One that is being cancelled only comes to its end."""
        if self.status == "cancelling" and status not in ENDED:
            return
        self.status = status
        self.moments[f"{status}_at"] = int(unix_s)

    def cancel(self, unix_s: float) -> None:
        """Ask for its end."""
        if not (self.has_ended or self.cancelled.is_set()):
            self.turn("cancelling", unix_s)
            self.cancelled.set()

    def wire(self) -> dict[str, Any]:
        """The batch as the API tells it."""
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": f"/v1/{self.endpoint}",
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.order.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            **{name: self.moments.get(name) for name in _MOMENTS},
            "request_counts": {
                "total": self.total,
                "completed": self.completed,
                "failed": self.failed,
            },
            "usage": self._usage(),
            "metadata": self.order.metadata,
        }

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
