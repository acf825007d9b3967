"""A run shard by shard: the driver hands out whole files, and has keys, limits and money.

It holds nothing of a row: rows, replies and results are with the worker that has the shard.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from gptflow import __version__
from gptflow.errors import RunStopped, UsageError
from gptflow.pipeline.texts import shown_path
from gptflow.runner.begin import Beginning, Retry
from gptflow.runner.loop import run_coroutine
from gptflow.runner.prepare import STORE_FOLDER, Prepared
from gptflow.runner.price import Prices, PricesOfCalls
from gptflow.runner.purse import Purse
from gptflow.runner.server import open_server
from gptflow.runner.shards.drive import ShardDrive
from gptflow.runner.shards.shard import Marker, Shard, read_marker, shards_of
from gptflow.runner.summary import Ending, RunSummary
from gptflow.runner.watchers import Watchers
from gptflow.runner.words import counted
from gptflow.spec.paths import resolve_output
from gptflow.store.reader import StoreReader
from gptflow.store.record import FailureGroup, ModelUsage, RunRecord, RunStatus


class ShardedRun:
    """One command's work on the shards of a spec."""

    def __init__(
        self, prepared: Prepared, watchers: Watchers, stores: Path | None, *, fresh: bool
    ) -> None:
        """`stores`: the folder for the shards' stores; None for one beside the outputs."""
        self._prepared = prepared
        self._watchers = watchers
        self._folder = resolve_output(prepared.spec)
        self._stores = stores or self._folder / STORE_FOLDER
        self._fresh = fresh
        self._markers: dict[str, Marker] = {}
        """Of the shards that are done, by name."""
        self._stopped: RunStopped | None = None

    def run(self, retry: Retry | None) -> RunSummary:
        """Brings all shards to their markers, or as far as it goes. Blocks.

        Raises:
            GptflowError: bad data, a store or an output that cannot be used, no cluster.
        """
        began_s = time.monotonic()
        shards = shards_of(self._prepared, self._stores)
        left = [shard for shard in shards if not self._is_done(shard, retry)]
        self._count(left)
        if left:
            _check_writable(self._folder)
        watchers = self._watchers
        with watchers.notices:
            if left:
                beginning = self._beginning(retry)
                watchers.display.begin(self._prepared, beginning, watchers.tally, None)
                watchers.notices.begin(self._prepared, beginning, watchers.tally, None)
                watchers.tally.away = lambda: (
                    f"{len(self._markers):,} of {counted(len(shards), 'shard')}"
                )
                self._work(left, retry)
            wall_s = time.monotonic() - began_s
            has_ended = len(self._markers) == len(shards)
            summary = self._summary(has_ended=has_ended, had_work=bool(left), wall_s=wall_s)
            watchers.notices.end(summary)
            return summary

    def _is_done(self, shard: Shard, retry: Retry | None) -> bool:
        marker = None if self._fresh else read_marker(shard)
        if marker is None or retry == "truncated" or (retry and marker.failed):
            return False
        self._markers[shard.name] = marker
        return True

    def _count(self, left: Sequence[Shard]) -> None:
        tally, markers = self._watchers.tally, self._markers.values()
        tally.rows = sum(shard.rows for shard in left) + sum(marker.rows for marker in markers)
        tally.done = sum(marker.done for marker in markers)
        tally.failed = sum(marker.failed for marker in markers)

    def _work(self, left: Sequence[Shard], retry: Retry | None) -> None:
        prepared = self._prepared
        purse = self._purse(left)
        since = time.time() if self._fresh else None
        drive = ShardDrive(prepared, self._watchers, purse, fresh_since=since, retry=retry)
        try:
            with open_server(prepared.choice, prepared.config, prepared.plan) as server:
                run_coroutine(drive.bring(left, self._markers, server))
        except RunStopped as stopped:
            self._stopped = stopped
        finally:
            self._watchers.display.end()

    def _purse(self, left: Sequence[Shard]) -> Purse | None:
        """The money of all shards; None where they may cost anything, or are free."""
        limit_usd = self._prepared.spec.limits.cost_usd
        if limit_usd is None or self._prepared.choice.local:
            return None
        prices = Prices.of_spec(self._prepared.spec)
        known = PricesOfCalls(prices, self._prepared.plan.models)
        return Purse(limit_usd, known, () if self._fresh else self._used(left))

    def _used(self, left: Sequence[Shard]) -> Iterator[ModelUsage]:
        """What earlier commands have used: of shards that are done and of those that are not."""
        for marker in self._markers.values():
            yield from marker.usage
        for shard in left:
            if Path(shard.store).is_file():
                with StoreReader(Path(shard.store)) as reader:
                    run = reader.latest_run(self._prepared.choice.name)
                    yield from reader.usage(run.run_id) if run else ()

    def _beginning(self, retry: Retry | None) -> Beginning:
        """The run as those know it who show and tell of it: no store has it as a whole."""
        prepared, tally = self._prepared, self._watchers.tally
        run = RunRecord(
            name=prepared.spec.name,
            plan_digest=prepared.plan.digest,
            source_fingerprint="",
            spec=prepared.spec.origin.as_run,
            spec_file=prepared.spec.origin.file,
            server=prepared.choice.name,
            output=str(self._folder),
            fields=prepared.plan.fields,
            version=__version__,
            run_id=0,
            status=RunStatus.RUNNING,
            started_at=time.time(),
            ended_at=None,
            stop_reason="",
            output_digest="",
            ledger_digest="",
            rows=tally.rows,
            columns=(),
        )
        return Beginning(run, is_new=not tally.done and not retry)

    def _summary(self, *, has_ended: bool, had_work: bool, wall_s: float) -> RunSummary:
        prepared, tally, watchers = self._prepared, self._watchers.tally, self._watchers
        tokens, reached = tally.tokens, watchers.budget.reached
        stopped = None if has_ended else self._stopped
        ending = Ending.STOPPED if stopped else Ending.INTERRUPTED
        is_limit = reached is not None and stopped is not None and reached.stop is stopped
        return RunSummary(
            run=0,
            name=prepared.spec.name,
            status=Ending.FINISHED if has_ended else ending,
            rows=tally.rows,
            done=tally.done,
            failed=tally.failed,
            calls=tally.calls,
            reused_calls=tally.reused_calls,
            reused_rows=tally.reused_rows,
            prompt_tokens=sum(count.prompt for count in tokens.values()),
            completion_tokens=sum(count.completion for count in tokens.values()),
            cost_usd=0.0
            if prepared.choice.name
            else Prices.of_spec(prepared.spec).cost_usd(tokens),
            wall_s=wall_s,
            output=self._folder,
            store=self._stores,
            server=prepared.choice.name,
            failures=self._failures(),
            message=str(stopped) if stopped else None,
            next_options=reached.options if is_limit and reached else (),
            signal=watchers.interruption.signal,
            nothing_to_do=not had_work,
        )

    def _failures(self) -> tuple[FailureGroup, ...]:
        rows: Counter[tuple[str, str]] = Counter()
        for marker in self._markers.values():
            for group in marker.failures:
                rows[group.kind, group.message] += group.rows
        return tuple(FailureGroup(*reason, count) for reason, count in rows.most_common())


def _check_writable(folder: Path) -> None:
    """Raises UsageError where no output can be put: workers would find that out one by one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise UsageError(f"{shown_path(folder)}: no output can be written there: {reason}")
