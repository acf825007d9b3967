"""The two ends of the line between a run and a worker that lives elsewhere.

Both carry batches of bytes in their order; what is in them is the business of `messages`. A mode
says how they travel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Link(Protocol):
    """The run's end. Lives on the run's event loop."""

    def send(self, batch: bytes) -> None:
        """Sends a batch. Never waits; is ignored where the worker has gone."""

    async def close(self) -> None:
        """Lets the worker end, and sees to it that it has."""


class Port(Protocol):
    """The worker's end. Lives on the worker's event loop."""

    def send(self, batch: bytes) -> None:
        """Sends a batch. Never waits; is ignored where the run has gone."""

    async def receive(self) -> bytes | None:
        """The next batch; None when the run has gone, or wants nothing more."""


class Mode(Protocol):
    """Where the workers of a run live."""

    @property
    def title(self) -> str:
        """What a person calls a worker there: "process"."""

    start_s: float | None
    """Seconds after which a worker that cannot take rows yet is given up; None for never."""

    async def hire(
        self, number: int, on_batch: Callable[[bytes], object], on_lost: Callable[[str], object]
    ) -> Link:
        """Starts a worker whose life is `inside.work`.

        Args:
            number: its place in the crew. The one that replaces a worker has the same.
            on_batch: is given each batch from it, on the calling event loop.
            on_lost: is told once, there, that it has ended without being asked to, and how: "was
                killed by SIGKILL".

        Raises:
            GptflowError: no worker can be started there.
        """

    async def close(self) -> None:
        """Ends what was begun for the crew as a whole, after its last worker."""
