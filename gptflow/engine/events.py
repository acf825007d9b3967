"""What happens inside the engine that someone outside may want to show, count or tell."""

from __future__ import annotations

import msgspec

from gptflow.engine.attempt import FaultKind
from gptflow.records import Call, Reply


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


class ReplyWasted(msgspec.Struct, frozen=True):
    """A reply came that is paid and of no use, such as an empty one: the call is sent again."""

    call: Call
    reply: Reply


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


class KeysSpent(msgspec.Struct, frozen=True):
    """No key is left that can serve a model: its calls wait until config.json has a usable one.

    Told at once, and again after 1, 2, 4 ... times the engine's `base_wait_s`.
    """

    message: str
    """What became of each key; several lines, without a secret."""
    hint: str
    waited_s: float


class KeysBack(msgspec.Struct, frozen=True):
    """There is a usable key again: the calls that waited for one go on."""

    waited_s: float


class KeysChanged(msgspec.Struct, frozen=True):
    """config.json was read anew. Names of keys; a key whose entry was edited is in both."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class ConfigBroken(msgspec.Struct, frozen=True):
    """config.json was changed, but cannot be used: the keys stay as they were."""

    message: str


class OutageBegan(msgspec.Struct, frozen=True):
    """No server answers any more, whichever key asks: calls are held, and not charged."""

    message: str


class OutageEnded(msgspec.Struct, frozen=True):
    """A server answers again: the calls that were held go on."""

    held_s: float


Event = (
    CallRetried
    | ReplyWasted
    | KeyUsed
    | KeyRested
    | KeyExhausted
    | KeyRetired
    | ModelMissing
    | KeysSpent
    | KeysBack
    | KeysChanged
    | ConfigBroken
    | OutageBegan
    | OutageEnded
)
