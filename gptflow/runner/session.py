"""Bringing the rows of a run to their ends: who answers, who works, and who listens meanwhile.

Here alone pipeline, engine and store meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gptflow.data.replay import replay
from gptflow.engine.engine import Engine
from gptflow.records import Row
from gptflow.runner.archive import RunArchive
from gptflow.runner.batch.recall import Recall, RecallWork, counted_once
from gptflow.runner.begin import Beginning
from gptflow.runner.desk import Desk
from gptflow.runner.events import Listener, fan_out
from gptflow.runner.forecast import Forecast, forecast
from gptflow.runner.garbage import rare_collections
from gptflow.runner.lanes import Lanes
from gptflow.runner.loop import run_coroutine
from gptflow.runner.modes.batch import BatchRun, BatchWork
from gptflow.runner.modes.choose import crew
from gptflow.runner.prepare import Prepared
from gptflow.runner.price import Prices, PricesOfCalls
from gptflow.runner.purse import Purse
from gptflow.runner.run_engine import asker_of, concurrency_of, key_shares, run_engine
from gptflow.runner.server import Server, open_server
from gptflow.runner.till import Till
from gptflow.runner.watchers import Watchers
from gptflow.runner.width import Width
from gptflow.store.store import Store

KEPT_ROWS = 100
"""So few pending rows are kept from the forecast on: to find them in a long file takes a while."""
KEPT_BYTES = 1 << 22


class Session:
    """One command's work on the rows of a run."""

    def __init__(
        self, prepared: Prepared, store: Store, beginning: Beginning, watchers: Watchers
    ) -> None:
        self._prepared = prepared
        self._store = store
        self._run = beginning.run
        self._is_retry = bool(beginning.retried_rows)
        self._watchers = watchers
        self._kept: list[Row] = []

    def forecast(self) -> Forecast | None:
        """What the store will answer; None where it has nothing to answer with."""
        pending, reader = self._watchers.tally.pending, self._store.reader
        if not pending or self._run.fresh or not reader.has_replies():
            return None
        archive = RunArchive(self._store, self._run)
        return forecast(self._prepared.plan, self._pending_rows(), pending, archive)

    def work(self, *, wait: bool) -> None:
        """Brings the pending rows to their ends, or as far as it goes.

        `wait`: in batch mode, whether to wait for the provider.

        Raises:
            RunStopped: a limit, an interruption, or nobody can answer any more.
            GptflowError: the data, the store or the workers fail.
        """
        prepared = self._prepared
        if self._store.reader.usage(self._run.run_id):
            self._watchers.first_calls.trust_spec()
        opened = open_server(prepared.choice, prepared.config, prepared.plan)
        with opened as server, rare_collections():
            if prepared.spec.parallelism.mode == "batch":
                run_coroutine(self._ask_in_batches(server, wait=wait))
                return
            run_coroutine(self._ask_one_by_one(server))

    async def _ask_in_batches(self, server: Server, *, wait: bool) -> None:
        """Has the calls answered by the Batch API, a round of rows at a time."""
        prepared, purse, watchers = self._prepared, self._purse(), self._watchers
        work = BatchWork(
            spec=prepared.spec,
            plan=prepared.plan,
            server=server,
            store=self._store,
            run=self._run,
            is_retry=self._is_retry,
            rows=lambda: watchers.first_calls.watch(self._replayed()),
            hear=self._listener(RunArchive(self._store, self._run), purse),
            purse=purse,
            budget=watchers.budget,
            say=watchers.display.say,
            wait=wait,
        )
        batch = BatchRun(work)
        watchers.tally.away = batch.words
        await watchers.see_through(batch, batch, Width.fixed(1), engine=batch)

    async def _ask_one_by_one(self, server: Server) -> None:
        """Has each call answered by itself, by the worker that asks it."""
        fetched = await self._call_back_batches(server)
        if self._watchers.interruption.signal is not None:
            return
        watchers, purse = self._watchers, self._purse()
        archive, spec = RunArchive(self._store, self._run), self._prepared.spec
        hear = counted_once(self._listener(archive, purse), fetched)
        async with run_engine(spec, server, hear) as engine:
            watchers.tally.keys = lambda: key_shares(engine)
            asker = asker_of(engine, server)
            till = Till(purse, watchers.budget, asker, engine) if purse else None
            desk = Desk(till or asker, archive, hear)
            rows = watchers.first_calls.watch(self._pending_rows())
            opened = crew(
                self._prepared, watchers.tally.pending, server, desk, watchers.display.say
            )
            async with opened as workers:
                lanes = Lanes(workers.converse, desk, archive, rows, hear)
                lanes.on_drain = workers.drain
                width = _width(concurrency_of(spec, server), engine, till)
                await watchers.see_through(lanes, till or engine, width, engine=engine)

    async def _call_back_batches(self, server: Server) -> int:
        """Brings in what earlier commands have left with the Batch API; how many replies came."""
        watchers = self._watchers
        recall = Recall(
            RecallWork(
                spec=self._prepared.spec,
                config=server.config,
                store=self._store,
                run=self._run,
                hear=fan_out(
                    watchers.tally.hear_of_batch,
                    self._listener(RunArchive(self._store, self._run), None),
                ),
                say=watchers.display.say,
            )
        )
        if not recall.has_work:
            return 0
        watchers.tally.away = recall.words
        await watchers.see_through(recall, recall, Width.fixed(1))
        watchers.tally.away = str
        return recall.answers

    def _purse(self) -> Purse | None:
        """The run's money; None where it may cost anything, or is free."""
        limit_usd, plan = self._prepared.spec.limits.cost_usd, self._prepared.plan
        if limit_usd is None or self._prepared.choice.local:
            return None
        prices = Prices.of_spec(self._prepared.spec)
        reader, run_id = self._store.reader, self._run.run_id
        return Purse(
            limit_usd,
            PricesOfCalls(prices, plan.models),
            reader.usage(run_id),
            reader.estimates(run_id),
            discounted=self._store.batches.discounted(run_id),
            share=prices.share,
        )

    def _listener(self, archive: RunArchive, purse: Purse | None) -> Listener:
        listeners = (*self._watchers.listeners, archive.hear)
        return fan_out(*listeners, purse.hear) if purse else fan_out(*listeners)

    def _pending_rows(self) -> Iterator[Row]:
        """The pending rows. A few of them are looked for in the source once, not twice."""
        if self._kept:
            return iter(self._kept)
        rows = self._replayed()
        return rows if self._watchers.tally.pending > KEPT_ROWS else self._keeping(rows)

    def _replayed(self) -> Iterator[Row]:
        pending = self._store.reader.pending(self._run.run_id)
        return replay(self._prepared.source, pending, self._prepared.spec.source.id_columns)

    def _keeping(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows, which are kept if whoever takes them takes all."""
        kept, size = [], 0
        for row in rows:
            size += len(row.raw)
            if size <= KEPT_BYTES:
                kept.append(row)
            yield row
        self._kept = kept if size <= KEPT_BYTES else []


def _width(concurrency: int | Literal["auto"], engine: Engine, till: Till | None) -> Width:
    if concurrency != "auto":
        return Width.fixed(concurrency)
    return Width.adaptive(lambda: engine.in_line + (till.in_line if till else 0))
