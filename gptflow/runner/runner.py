"""Running: from a prepared spec to a summary. Here alone pipeline, engine and store meet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptflow.data.replay import replay
from gptflow.engine.engine import Engine
from gptflow.errors import RunStopped, UsageError
from gptflow.records import Row
from gptflow.runner.archive import RunArchive
from gptflow.runner.begin import Beginning, Retry, begin
from gptflow.runner.budget import Budget
from gptflow.runner.desk import Asker, Desk
from gptflow.runner.display import Display
from gptflow.runner.drive import drive, within
from gptflow.runner.events import Listener, fan_out
from gptflow.runner.first_calls import FirstCalls, heeded
from gptflow.runner.forecast import Forecast, forecast
from gptflow.runner.garbage import rare_collections
from gptflow.runner.interrupt import Interruption
from gptflow.runner.lanes import Lanes
from gptflow.runner.loop import run_coroutine
from gptflow.runner.modes.batch import BatchRun, BatchWork, check_server, left_with_provider
from gptflow.runner.modes.choose import commit_spacing, crew
from gptflow.runner.notices import Notices
from gptflow.runner.prepare import Prepared
from gptflow.runner.price import Prices, PricesOfCalls
from gptflow.runner.publish import Publisher, Target
from gptflow.runner.purse import Purse
from gptflow.runner.rehearsal import Rehearsal
from gptflow.runner.server import Server, open_server
from gptflow.runner.summary import Ending, RunSummary
from gptflow.runner.tally import KeyShare, Tally
from gptflow.runner.till import Till
from gptflow.runner.width import Width
from gptflow.store.record import RunStatus
from gptflow.store.run import RunChange
from gptflow.store.store import Store

KEPT_ROWS = 100
"""So few pending rows are kept from the forecast on: to find them in a long file takes a while."""
KEPT_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run may be told beside its spec."""

    store: Path | None = None
    """The store's file; without it .gptflow/NAME.db in the working directory."""
    fresh: bool = False
    """Start over and ask everything again."""
    retry: Retry | None = None
    """Ask again the rows that failed, or those with a truncated reply."""
    wait: bool = True
    """In batch mode: whether to wait for the provider, or to end when all is submitted."""


class Runner:
    """Works on one run of a spec, and knows what came of it."""

    def __init__(
        self,
        prepared: Prepared,
        options: RunOptions,
        display: Display,
        interruption: Interruption | None = None,
    ) -> None:
        """`interruption`: for callers who want to end the run from another thread."""
        self._prepared = prepared
        self._options = options
        self._display = display
        self._tally = Tally()
        self._kept: list[Row] = []
        self._first_calls = FirstCalls()
        self._interruption = interruption or Interruption()
        self._prices = Prices.of_spec(prepared.spec)
        simulated = prepared.choice.mock
        self._budget = Budget(prepared.spec.limits, self._tally, simulated=simulated)
        self._stopped: RunStopped | None = None
        self._notices = Notices.of(prepared.spec, display.say)

    def run(self) -> RunSummary:
        """Runs to the end, or to where it must stop. Blocks.

        On return every finished row is on disk, and the output is in its place if all rows have
        ended.

        Raises:
            GptflowError: bad data, a store that cannot be used, an output that cannot be written.
        """
        began_s = time.monotonic()
        if self._prepared.spec.parallelism.mode == "batch":
            check_server(self._prepared.choice)
        path = self._prepared.store_path(self._options.store)
        spacing = commit_spacing(self._prepared.spec.parallelism)
        with self._notices, Store.open(path, spacing=spacing) as store:
            if store.note:
                self._display.say(store.note)
            beginning = begin(
                store, self._prepared, fresh=self._options.fresh, retry=self._options.retry
            )
            self._count(store, beginning)
            target = Target.of(self._prepared, beginning.run)
            nothing_to_do = not self._tally.pending and target.is_published(beginning.run)
            if not nothing_to_do:
                self._work(store, beginning, target)
            wall_s = time.monotonic() - began_s
            summary = self._summary(store, beginning, wall_s=wall_s, nothing_to_do=nothing_to_do)
            self._notices.end(summary)
            return summary

    def _count(self, store: Store, beginning: Beginning) -> None:
        counts = store.reader.counts(beginning.run.run_id)
        self._tally.rows = beginning.run.rows
        self._tally.done, self._tally.failed = counts.done, counts.failed
        self._tally.reused_rows = beginning.reused_rows

    def _work(self, store: Store, beginning: Beginning, target: Target) -> None:
        """Brings the pending rows to their ends, and the output to its place meanwhile."""
        run_id = beginning.run.run_id
        try:
            publisher = Publisher(store.path, run_id, target)
        except UsageError:
            store.update_run(run_id, RunChange(status=RunStatus.INTERRUPTED))
            raise
        publisher.start()
        try:
            foreseen = self._forecast(store, beginning)
            self._display.begin(self._prepared, beginning, self._tally, foreseen)
            self._notices.begin(self._prepared, beginning, self._tally, foreseen)
            if self._tally.pending:
                self._converse(store, beginning)
        except RunStopped as stopped:
            self._stopped = stopped
            if stopped is self._first_calls.verdict:
                store.put_back(run_id, self._first_calls.positions)
        finally:
            self._display.end()
            self._finish(store, run_id, publisher, target)

    def _finish(self, store: Store, run_id: int, publisher: Publisher, target: Target) -> None:
        """Brings the output to its place if all rows have ended, and writes down how it ended."""
        has_ended = is_published = False
        try:
            try:
                has_ended = store.reader.counts(run_id).pending == 0
            finally:  # or the thread would hold the output's lock as long as the process lives
                publisher.finish(commit=has_ended)
            is_published = has_ended
        finally:
            if has_ended:
                self._stopped = None  # the rows in flight were the last ones
            change = RunChange(
                status=RunStatus(self._ending(has_ended=has_ended).value),
                stop_reason=self._stopped.message if self._stopped else None,
                output=str(target.path),
                output_digest=target.digest if is_published else "",
            )
            store.update_run(run_id, change)

    def _forecast(self, store: Store, beginning: Beginning) -> Forecast | None:
        """What the store will answer; None where it has nothing to answer with."""
        if not self._tally.pending or beginning.run.fresh or not store.reader.has_replies():
            return None
        archive = RunArchive(store, beginning.run)
        rows = self._pending_rows(store, beginning)
        return forecast(self._prepared.plan, rows, self._tally.pending, archive)

    def _converse(self, store: Store, beginning: Beginning) -> None:
        prepared = self._prepared
        opened = open_server(prepared.choice, prepared.config, prepared.plan)
        is_batch = prepared.spec.parallelism.mode == "batch"
        with opened as server, rare_collections():
            converse = self._batch_on if is_batch else self._converse_on
            if not is_batch and (left := left_with_provider(store, beginning.run)):
                self._display.say(left)
            run_coroutine(converse(server, store, beginning))

    async def _batch_on(self, server: Server, store: Store, beginning: Beginning) -> None:
        """Has the calls answered by the Batch API, a round of rows at a time."""
        prepared, run = self._prepared, beginning.run
        purse = self._purse(store, beginning)
        if store.reader.usage(run.run_id):
            self._first_calls.trust_spec()

        def rows() -> Iterator[Row]:
            pending = store.reader.pending(run.run_id)
            columns = prepared.spec.source.id_columns
            return self._first_calls.watch(replay(prepared.source, pending, columns))

        work = BatchWork(
            spec=prepared.spec,
            plan=prepared.plan,
            server=server,
            store=store,
            run=run,
            is_retry=bool(beginning.retried_rows),
            rows=rows,
            hear=self._listener(RunArchive(store, run), purse),
            purse=purse,
            budget=self._budget,
            say=self._display.say,
            wait=self._options.wait,
        )
        batch = BatchRun(work)
        self._tally.away = batch.words
        kept = within(self._budget, batch, batch, self._display, self._interruption)
        async with heeded(self._first_calls, batch), kept:
            await drive(
                batch,
                batch,
                Width.fixed(1),
                display=self._display,
                tally=self._tally,
                interruption=self._interruption,
            )

    async def _converse_on(self, server: Server, store: Store, beginning: Beginning) -> None:
        prepared, limits = self._prepared, self._prepared.spec.limits
        concurrency = self._concurrency(server)
        archive, purse = RunArchive(store, beginning.run), self._purse(store, beginning)
        hear = self._listener(archive, purse)
        if store.reader.usage(beginning.run.run_id):
            self._first_calls.trust_spec()
        async with Engine(
            server.config,
            attempts=limits.attempts,
            timeout_s=limits.timeout_s,
            concurrency=concurrency,
            key_wait_s=limits.key_wait_s,
            outage_s=limits.outage_s,
            base_wait_s=prepared.spec.notify.base_wait_s,
            on_event=hear,
        ) as engine:
            self._tally.keys = lambda: _key_shares(engine)
            asker = _asker(engine, server.rehearsal)
            till = Till(purse, self._budget, asker, engine) if purse else None
            desk = Desk(till or asker, archive, hear)
            rows = self._first_calls.watch(self._pending_rows(store, beginning))
            async with crew(prepared, self._tally.pending, server, desk, self._display.say) as who:
                lanes = Lanes(who.converse, desk, archive, rows, hear)
                lanes.on_drain = who.drain
                gate = till or engine
                kept = within(self._budget, lanes, gate, self._display, self._interruption)
                async with heeded(self._first_calls, engine), kept:
                    await drive(
                        lanes,
                        gate,
                        _width(concurrency, engine, till),
                        display=self._display,
                        tally=self._tally,
                        interruption=self._interruption,
                    )

    def _purse(self, store: Store, beginning: Beginning) -> Purse | None:
        """The run's money; None where it may cost anything, or is free."""
        limit_usd, plan = self._prepared.spec.limits.cost_usd, self._prepared.plan
        if limit_usd is None or self._prepared.choice.local:
            return None
        prices = PricesOfCalls(self._prices, plan.models)
        reader, run_id = store.reader, beginning.run.run_id
        return Purse(
            limit_usd,
            prices,
            reader.usage(run_id),
            reader.estimates(run_id),
            discounted=store.batches.discounted(run_id),
            share=self._prices.share,
        )

    def _listener(self, archive: RunArchive, purse: Purse | None) -> Listener:
        """Tells all who listen; the tally first, which others read."""
        listeners = [
            self._tally.hear,
            self._first_calls.hear,
            self._display.hear,
            self._notices.hear,
            archive.hear,
        ]
        return fan_out(*listeners, purse.hear) if purse else fan_out(*listeners)

    def _pending_rows(self, store: Store, beginning: Beginning) -> Iterator[Row]:
        """The pending rows. A few of them are looked for in the source once, not twice."""
        if self._kept:
            return iter(self._kept)
        pending = store.reader.pending(beginning.run.run_id)
        source = self._prepared.spec.source
        rows = replay(self._prepared.source, pending, source.id_columns)
        return rows if self._tally.pending > KEPT_ROWS else self._keeping(rows)

    def _keeping(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows, which are kept if whoever takes them takes all."""
        kept, size = [], 0
        for row in rows:
            size += len(row.raw)
            if size <= KEPT_BYTES:
                kept.append(row)
            yield row
        self._kept = kept if size <= KEPT_BYTES else []

    def _concurrency(self, server: Server) -> int | Literal["auto"]:
        wanted = self._prepared.spec.parallelism.concurrency
        if server.max_concurrency is None:
            return wanted
        return server.max_concurrency if wanted == "auto" else min(wanted, server.max_concurrency)

    def _next_options(self) -> tuple[str, ...]:
        reached = self._budget.reached
        return reached.options if reached and reached.stop is self._stopped else ()

    def _ending(self, *, has_ended: bool) -> Ending:
        if has_ended:
            return Ending.FINISHED
        return Ending.STOPPED if self._stopped else Ending.INTERRUPTED

    def _summary(
        self, store: Store, beginning: Beginning, *, wall_s: float, nothing_to_do: bool
    ) -> RunSummary:
        run, tally, prepared = beginning.run, self._tally, self._prepared
        counts = store.reader.counts(run.run_id)
        tokens = tally.tokens
        return RunSummary(
            run=run.run_id,
            name=prepared.spec.name,
            status=self._ending(has_ended=counts.pending == 0),
            rows=run.rows,
            done=counts.done,
            failed=counts.failed,
            calls=tally.calls,
            reused_calls=tally.reused_calls,
            reused_rows=tally.reused_rows,
            prompt_tokens=sum(count.prompt for count in tokens.values()),
            completion_tokens=sum(count.completion for count in tokens.values()),
            cost_usd=0.0 if prepared.choice.name else self._prices.cost_usd(tokens),
            wall_s=wall_s,
            output=prepared.output,
            store=store.path,
            server=prepared.choice.name,
            failures=tuple(store.reader.failures(run.run_id)),
            message=str(self._stopped) if self._stopped else None,
            next_options=self._next_options(),
            signal=self._interruption.signal,
            nothing_to_do=nothing_to_do,
        )


def _width(concurrency: int | Literal["auto"], engine: Engine, till: Till | None) -> Width:
    if concurrency != "auto":
        return Width.fixed(concurrency)
    return Width.adaptive(lambda: engine.in_line + (till.in_line if till else 0))


def _key_shares(engine: Engine) -> list[KeyShare]:
    """What each key does for the run."""
    answered = engine.answered()
    return [KeyShare(state, answered.get(state.name, 0)) for state in engine.outlook()]


def _asker(engine: Engine, rehearsal: Rehearsal | None) -> Asker:
    return rehearsal.noting(engine) if rehearsal else engine
