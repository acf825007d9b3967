"""What happens inside the engine that someone outside may want to show, count or tell."""

from __future__ import annotations

import msgspec

from gptflow.engine.attempt import FaultKind


class CallRetried(msgspec.Struct, frozen=True):
    """An attempt failed for a passing reason; the call is sent again after `wait_s`."""

    step: str
    model: str
    key_name: str
    attempt: int
    """Attempts charged to the call so far."""
    wait_s: float
    status: int | None
    message: str
    fault: FaultKind | None = None
    """How the transport failed, where it did."""


class KeyUsed(msgspec.Struct, frozen=True):
    """A key is about to send its first call."""

    key_name: str


class KeyRested(msgspec.Struct, frozen=True):
    """A key came to its rate limit. Said once for a burst of refusals."""

    key_name: str
    wait_s: float
    message: str


class KeyExhausted(msgspec.Struct, frozen=True):
    """A key has no money or quota left."""

    key_name: str
    message: str


class KeyRetired(msgspec.Struct, frozen=True):
    """A key, or its entry in the configuration, is not valid."""

    key_name: str
    message: str


class ModelMissing(msgspec.Struct, frozen=True):
    """A key does not serve a model."""

    key_name: str
    model: str
    message: str


Event = CallRetried | KeyUsed | KeyRested | KeyExhausted | KeyRetired | ModelMissing
