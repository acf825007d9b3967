"""The store as a worker sees it: one run's replies and results."""

from __future__ import annotations

import asyncio

from gptflow.engine.events import ReplyWasted
from gptflow.records import Call, Reply, RowResult
from gptflow.runner.events import RunEvent
from gptflow.runner.purse import untold
from gptflow.store.record import RunRecord
from gptflow.store.store import Store


class RunArchive:
    """Reads and writes for one run. Lives on the thread that opened the store."""

    def __init__(self, store: Store, run: RunRecord) -> None:
        self._store = store
        self._run_id = run.run_id
        self._server = run.server
        self._since_run = run.since_run

    def find_reply(self, call_key: bytes) -> bytes | None:
        """The body of a stored reply; of no run before `since_run`."""
        return self._store.find_reply(call_key, self._server, self._since_run)

    def save_reply(self, call: Call, reply: Reply) -> asyncio.Future[None]:
        """Resolves when the reply is on disk."""
        return self._store.save_reply(self._run_id, call, reply, untold(call, reply))

    def hear(self, event: RunEvent) -> None:
        """Keeps what was paid for nothing: it is money of the run, though no answer to a call."""
        if isinstance(event, ReplyWasted):
            estimated = untold(event.call, event.reply)
            self._store.save_reply(self._run_id, event.call, event.reply, estimated, stale=True)

    def save_result(self, result: RowResult) -> asyncio.Future[None]:
        """Resolves when the row's result, and all its replies, are on disk."""
        return self._store.save_result(self._run_id, result)
