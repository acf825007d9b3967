"""Who looks at a run while it works: they count, show, tell, and end it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from gptflow.runner.budget import Budget
from gptflow.runner.display import Display
from gptflow.runner.drive import Drained, Driven, drive, within
from gptflow.runner.events import Listener
from gptflow.runner.first_calls import FirstCalls, Stopped, heeded
from gptflow.runner.interrupt import Interruption
from gptflow.runner.notices import Notices
from gptflow.runner.tally import Tally
from gptflow.runner.width import Width


@dataclass(frozen=True, slots=True)
class Watchers:
    """All of them, of one run."""

    tally: Tally
    first_calls: FirstCalls
    budget: Budget
    display: Display
    notices: Notices
    interruption: Interruption

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Those that listen; the tally first, which others read."""
        return self.tally.hear, self.first_calls.hear, self.display.hear, self.notices.hear

    async def see_through(
        self, driven: Driven, gate: Drained, width: Width, *, engine: Stopped | None = None
    ) -> None:
        """Has work done within the limits of the run, and drained where someone ends it.

        Args:
            driven: what brings rows to their ends.
            gate: what is drained along with it.
            width: how wide.
            engine: what is stopped where the first calls all fail alike; None where that says
                nothing.

        Raises:
            RunStopped: a limit is reached, nobody can answer any more, or the first calls failed.
        """
        async with AsyncExitStack() as watching:
            if engine is not None:
                await watching.enter_async_context(heeded(self.first_calls, engine))
            kept = within(self.budget, driven, gate, self.display, self.interruption)
            await watching.enter_async_context(kept)
            await drive(
                driven,
                gate,
                width,
                display=self.display,
                tally=self.tally,
                interruption=self.interruption,
            )
