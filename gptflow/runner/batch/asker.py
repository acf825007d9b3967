"""Who is asked in a batch run: a call is put into the next batch, and its row goes on later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from gptflow.engine.batch_line import request_line
from gptflow.engine.caller import Send
from gptflow.errors import CallFailed, GptflowError, RunStopped
from gptflow.pipeline.token_estimate import estimate_tokens
from gptflow.records import Call, Failure, FailureKind, Reply, unwritable
from gptflow.runner.batch.faults import are_enough, failure, unpacked
from gptflow.runner.batch.provider import Provider
from gptflow.runner.batch.spool import Spool
from gptflow.runner.budget import Budget
from gptflow.runner.purse import Purse, Room
from gptflow.runner.rehearsal import Rehearsal
from gptflow.store.batches import Batches

BREATH = 64
"""After so many calls everything else has its turn."""
TRIAL = 30
"""So many calls of a step are asked first where money is limited and no reply to it was seen: the
room for the others is reckoned from what these have cost."""


class AskedLater(GptflowError):
    """The call is on its way: its row goes on in a later round."""


class BatchAsker:
    """Takes the calls of a round that have no reply yet. A desk's asker."""

    def __init__(
        self,
        book: Batches,
        spool: Spool,
        provider: Provider,
        run_id: int,
        attempts: int,
    ) -> None:
        self._book = book
        self._spool = spool
        self._provider = provider
        self._run_id = run_id
        self._attempts = attempts
        self.till: tuple[Purse, Budget] | None = None
        """Where the run's money is counted."""
        self.rehearsal: Rehearsal | None = None
        self.find_reply: Callable[[bytes], bytes | None] = lambda _: None
        """As that of the archive."""
        self._has_faults = False
        self._asked = 0
        self.seen: set[str] = set()
        """The steps to which replies have come."""
        self._on_trial: Counter[str] = Counter()
        """The calls of this round to steps of which nothing was seen before."""
        self.added = 0
        """Calls of this round that were put into files."""
        self.deferred = 0
        """Calls of this round that wait, in files and elsewhere."""
        self.come = 0
        """Those whose replies have come since their row was looked at."""
        self._missing_usd: float | None = None
        """What the first call may cost for which there was no room."""

    def begin_round(self) -> None:
        """The rows are gone through once more."""
        self.added = self.deferred = self.come = 0
        self._on_trial.clear()
        self._missing_usd = None
        self._has_faults = self._book.has_faults(self._run_id)

    async def end_round(self) -> None:
        """All that has been written is submitted."""
        for sealed in self._spool.seal_all():
            await self._provider.submit(sealed, self._run_id)

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        """Never gives a reply: those that came are in the store.

        Raises:
            AskedLater: it is on its way, or there is no room for it now.
            CallFailed: it was asked as often as it may be, or is rejected for good.
        """
        del prefer, send  # a batch has one key, and no connection of its own
        self._asked += 1
        if self._asked % BREATH == 0:
            await asyncio.sleep(0)
        self._raise_if_failed(call)
        self.deferred += 1
        flight = self._provider.flights.with_call(call.key)
        if flight is not None:
            flight.is_wanted = True
        elif self.find_reply(call.key) is not None:  # it has landed just now
            self.come += 1
        elif self._provider.stopped is None and not self._spool.holds(call.key):
            await self._put(call)
        raise AskedLater("the call is on its way")

    def why_stuck(self) -> RunStopped:
        """Why nothing is on its way although rows wait."""
        if self._provider.stopped is not None:
            return self._provider.stopped
        assert self.till is not None
        purse, budget = self.till
        return budget.reach_cost(purse.spent_usd, purse.reserved_usd, self._missing_usd or 0.0)

    def _raise_if_failed(self, call: Call) -> None:
        if not self._has_faults:
            return
        faults = self._book.faults(self._run_id, call.key)
        if faults and are_enough(unpacked(faults), self._attempts):
            raise CallFailed(failure(faults, call.step))

    async def _put(self, call: Call) -> None:
        """Writes a call into the file of its model, if there is money for it."""
        try:
            line = request_line(call)
        except UnicodeEncodeError:
            raise CallFailed(unwritable(call.step)) from None
        tokens = estimate_tokens(call.messages)
        if not self._spool.takes(len(line), tokens):
            message = (
                "the call alone is larger than a batch may be: see parallelism.batch.megabytes "
                "and enqueued_tokens"
            )
            raise CallFailed(Failure(FailureKind.REJECTED, message, step=call.step))
        usd = self._reserved(call)
        if usd is None:
            return
        if self.rehearsal:
            self.rehearsal.note(call)
        self.added += 1
        sealed = self._spool.add(call, line, tokens, usd)
        if sealed is not None:
            await self._provider.submit(sealed, self._run_id)

    def _reserved(self, call: Call) -> float | None:
        """What is kept for a call; None if there is no room for it."""
        if self.till is None:
            return 0.0
        if call.step not in self.seen:
            if self._on_trial[call.step] == TRIAL:
                return None
            self._on_trial[call.step] += 1
        purse, _ = self.till
        usd = purse.expected_usd(purse.quote(call))
        if self._missing_usd is not None or purse.room(usd) is not Room.FREE:
            self._missing_usd = self._missing_usd or usd
            return None
        purse.reserve(usd)
        return usd
