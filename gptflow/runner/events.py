"""What happens in a run, as values: workers tell, everybody else listens."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gptflow.engine.events import Event as EngineEvent
from gptflow.records import Failure, RowStatus, Usage


class CallAnswered(msgspec.Struct, frozen=True, gc=False):
    """A call has its reply, and the store has it."""

    step: str
    model: str
    """The model that was asked for: prices go by this name."""
    usage: Usage
    reused: bool
    """Whether the reply came out of the store, and nothing was paid."""


class RowEnded(msgspec.Struct, frozen=True, gc=False):
    """A row is done or failed, and the store has committed it."""

    position: int
    status: RowStatus
    failure: Failure | None = None


RunEvent = CallAnswered | RowEnded | EngineEvent
"""Everything that a listener may be told. EngineEvent: a call retried, a key resting or lost."""

Listener = Callable[[RunEvent], None]
"""Called on the worker's event loop for each event: it must be quick, and never raise."""


def fan_out(*listeners: Listener) -> Listener:
    """A listener that tells several, in this order."""

    def tell(event: RunEvent) -> None:
        for listener in listeners:
            listener(event)

    return tell
