"""Running: from a prepared spec to a summary of what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gptflow.errors import RunStopped, UsageError
from gptflow.runner.begin import Beginning, Retry, begin
from gptflow.runner.budget import Budget
from gptflow.runner.display import Display
from gptflow.runner.first_calls import FirstCalls
from gptflow.runner.interrupt import Interruption
from gptflow.runner.modes.batch import check_server
from gptflow.runner.modes.choose import commit_spacing
from gptflow.runner.notices import Notices
from gptflow.runner.prepare import Prepared
from gptflow.runner.price import Prices
from gptflow.runner.publish import Publisher, Target
from gptflow.runner.session import Session
from gptflow.runner.shards.run import ShardedRun
from gptflow.runner.summary import Ending, RunSummary
from gptflow.runner.tally import Tally
from gptflow.runner.watchers import Watchers
from gptflow.spec.paths import is_sharded
from gptflow.store.record import RunStatus
from gptflow.store.run import RunChange
from gptflow.store.store import Store


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
        self._first_calls = FirstCalls()
        self._interruption = interruption or Interruption()
        self._prices = Prices.of_spec(prepared.spec)
        simulated = prepared.choice.mock
        self._budget = Budget(prepared.spec.limits, self._tally, simulated=simulated)
        self._stopped: RunStopped | None = None
        self._notices = Notices.of(prepared.spec, display.say)
        self._watchers = Watchers(
            self._tally,
            self._first_calls,
            self._budget,
            display,
            self._notices,
            self._interruption,
        )

    def run(self) -> RunSummary:
        """Runs to the end, or to where it must stop. Blocks.

        On return every finished row is on disk, and the output is in its place if all rows have
        ended.

        Raises:
            GptflowError: bad data, a store that cannot be used, an output that cannot be written.
        """
        if is_sharded(self._prepared.spec):
            options, fresh = self._options, self._options.fresh
            sharded = ShardedRun(self._prepared, self._watchers, options.store, fresh=fresh)
            return sharded.run(options.retry)
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
            session = Session(self._prepared, store, beginning, self._watchers)
            foreseen = session.forecast()
            self._display.begin(self._prepared, beginning, self._tally, foreseen)
            self._notices.begin(self._prepared, beginning, self._tally, foreseen)
            if self._tally.pending:
                session.work(wait=self._options.wait)
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
            cost_usd=0.0 if prepared.choice.name else self._prices.of_tally(tally),
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
