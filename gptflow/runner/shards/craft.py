"""The work on one shard, where the worker lives: an ordinary run, of which the calls are asked for.

The worker has the shard's rows, its store and its output; the run has keys, limits and money.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from gptflow.data.replay import replay
from gptflow.data.sources.source import open_files
from gptflow.engine.caller import Send
from gptflow.errors import RunStopped
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Reply, RowStatus
from gptflow.runner.archive import RunArchive
from gptflow.runner.begin import Beginning, Retry, begin
from gptflow.runner.crew import messages as said
from gptflow.runner.crew.away_desk import AwayDesk
from gptflow.runner.desk import Desk
from gptflow.runner.events import CallAnswered, RowEnded, RunEvent, fan_out
from gptflow.runner.first_calls import FirstCalls, heeded
from gptflow.runner.lanes import Lanes
from gptflow.runner.prepare import Prepared
from gptflow.runner.publish import Publisher, Target
from gptflow.runner.server import ServerChoice
from gptflow.runner.shards.shard import Marker, Shard, look, write_marker
from gptflow.runner.talk import Talk
from gptflow.runner.width import FIRST_LANES, MOST_LANES, Width
from gptflow.spec.model import Spec
from gptflow.store.record import RowCounts, RunStatus
from gptflow.store.run import RunChange
from gptflow.store.store import Store

TELL_S = 0.25
"""Between two words on how far a shard has come."""

ON_THE_LINE = 32
"""Calls that may be on their way to the run: they do not wait for a key."""

MOST_FAILURES = 20
"""Reasons of failed rows that a marker has."""

Post = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class ShardCraft:
    """What all shards of a run are worked on by. It travels to the workers."""

    spec: Spec
    choice: ServerChoice
    fresh_since: float | None
    """Start over: a shard's run from before this time, in seconds since 1970, is not gone on with.
    A later one is of the same command, whose worker was lost."""
    retry: Retry | None
    lanes: int | None
    """Rows of a shard that are under way at a time; None for as many as find a key."""

    async def bring(
        self, taken: said.TakeRow, plan: Plan, desk: AwayDesk, post: Post
    ) -> said.RowEnd:
        """Brings a shard to its marker, which is the fields of what is given back.

        Raises:
            GptflowError: what concerns the run. What was done is in the shard's store.
        """
        shard = msgspec.json.decode(taken.raw, type=Shard)
        seen, path = look(Path(shard.source)), Path(shard.store)
        prepared = self._prepared(shard, plan)
        with suppress(FileNotFoundError):
            shard.marker_path.unlink()
        beginning = await asyncio.to_thread(self._begin, prepared, path)
        with Store.open(path) as store:
            work = _ShardWork(prepared, store, beginning, self.lanes)
            marker = await work.bring(shard, seen, _Asker(desk, taken.position), post)
        await asyncio.to_thread(write_marker, shard, marker)
        return said.RowEnd(taken.position, msgspec.json.encode(marker), None, (), False)

    def _prepared(self, shard: Shard, plan: Plan) -> Prepared:
        source = self.spec.source.model_copy(update={"path": shard.source})
        output = self.spec.output.model_copy(update={"path": shard.path})
        spec = self.spec.model_copy(update={"source": source, "output": output})
        return Prepared(spec, plan, open_files([Path(shard.source)]), self.choice, None)

    def _begin(self, prepared: Prepared, path: Path) -> Beginning:
        """Reads the file; in a thread, since that may take a while."""
        retry = self.retry if path.exists() else None
        with Store.open(path) as store:
            latest = store.reader.latest_run(prepared.choice.name)
            since = self.fresh_since
            fresh = since is not None and (latest is None or latest.started_at < since)
            return begin(store, prepared, fresh=fresh, retry=retry)


class _Asker:
    """Has the calls of a shard sent by the run's keys."""

    def __init__(self, desk: AwayDesk, position: int) -> None:
        self._desk = desk
        self.position = position
        self._stopped: RunStopped | None = None

    @property
    def in_line(self) -> int:
        """Calls that wait for a key."""
        return max(0, self._desk.in_line - ON_THE_LINE)

    def stop(self, reason: RunStopped) -> None:
        """Lets no call be asked any more."""
        self._stopped = reason

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        """The reply, which nobody has stored."""
        del send  # it is sent from here
        if self._stopped:
            raise self._stopped.again()
        return await self._desk.reply(self.position, call, prefer)


class _Teller:
    """Tells the run how far a shard has come."""

    def __init__(self, position: int, rows: int, counts: RowCounts, post: Post) -> None:
        self._now = said.Progress(position, rows, counts.done, counts.failed, 0, is_first=True)
        self._post = post
        self._timer: asyncio.TimerHandle | None = None
        post(self._now)

    def hear(self, event: RunEvent) -> None:
        """Counts an event."""
        now = self._now
        if isinstance(event, RowEnded) and event.status is RowStatus.DONE:
            now = replace(now, done=now.done + 1, is_first=False)
        elif isinstance(event, RowEnded):
            now = replace(now, failed=now.failed + 1, is_first=False)
        elif isinstance(event, CallAnswered) and event.reused:
            now = replace(now, reused_calls=now.reused_calls + 1, is_first=False)
        else:
            return
        self._now = now
        self._timer = self._timer or asyncio.get_running_loop().call_later(TELL_S, self.tell)

    def tell(self) -> None:
        """Tells what was counted since."""
        self._timer = None
        self._post(self._now)

    def end(self, counts: RowCounts) -> None:
        """Tells how the shard stands in the end: rows may have been put back."""
        if self._timer is not None:
            self._timer.cancel()
        self._now = replace(self._now, done=counts.done, failed=counts.failed, is_first=False)
        self.tell()


class _ShardWork:
    """The run of a shard, from its ledger to its output."""

    def __init__(
        self, prepared: Prepared, store: Store, beginning: Beginning, lanes: int | None
    ) -> None:
        self._prepared = prepared
        self._store = store
        self._beginning = beginning
        self._run_id = beginning.run.run_id
        self._lanes = lanes
        self._target = Target.of(prepared, beginning.run)

    async def bring(self, shard: Shard, seen: str, asker: _Asker, post: Post) -> Marker:
        """Works on the rows that are pending, and puts the output in its place.

        Raises:
            RunStopped: they cannot all be brought to their ends now.
        """
        run, reader = self._beginning.run, self._store.reader
        counts = reader.counts(self._run_id)
        teller = _Teller(asker.position, run.rows, counts, post)
        if counts.pending or not self._target.is_published(run):
            try:
                await self._work(asker, teller)
            finally:
                counts = reader.counts(self._run_id)
                teller.end(counts)
        return Marker(
            rows=run.rows,
            done=counts.done,
            failed=counts.failed,
            reused_rows=self._beginning.reused_rows,
            failures=reader.failures(self._run_id)[:MOST_FAILURES],
            usage=reader.usage(self._run_id),
            wanted=shard.wanted,
            source=seen,
        )

    async def _work(self, asker: _Asker, teller: _Teller) -> None:
        publisher = Publisher(self._store.path, self._run_id, self._target)
        publisher.start()
        first_calls, stopped = FirstCalls(), None
        try:
            await self._converse(asker, teller, first_calls)
        except RunStopped as reason:
            stopped = reason
            # Of another shard's verdict, too: these have failed before any call was answered.
            self._store.put_back(self._run_id, first_calls.positions)
        finally:
            has_ended = await self._finish(publisher, stopped)
        if stopped and not has_ended:
            raise stopped

    async def _converse(self, asker: _Asker, teller: _Teller, first_calls: FirstCalls) -> None:
        store, run, plan = self._store, self._beginning.run, self._prepared.plan
        if store.reader.usage(self._run_id):
            first_calls.trust_spec()
        archive = RunArchive(store, run)
        hear = fan_out(first_calls.hear, teller.hear, archive.hear)
        desk = Desk(asker, archive, hear)
        id_columns = self._prepared.spec.source.id_columns
        rows = replay(self._prepared.source, store.reader.pending(self._run_id), id_columns)
        talk = Talk(plan, desk.reply)
        lanes = Lanes(talk.converse, desk, archive, first_calls.watch(rows), hear)
        async with heeded(first_calls, asker):
            await lanes.run(self._width(asker))

    def _width(self, asker: _Asker) -> Width:
        if self._lanes is not None:
            return Width.fixed(min(self._lanes, MOST_LANES))
        return Width(FIRST_LANES, MOST_LANES, lambda: asker.in_line)

    async def _finish(self, publisher: Publisher, stopped: RunStopped | None) -> bool:
        """Brings the output to its place if all rows have ended; whether it is there."""
        has_ended = is_published = False
        try:
            try:
                has_ended = self._store.reader.counts(self._run_id).pending == 0
            finally:
                await asyncio.to_thread(publisher.finish, commit=has_ended)
            is_published = has_ended
        finally:
            status = RunStatus.STOPPED if stopped else RunStatus.INTERRUPTED
            change = RunChange(
                status=RunStatus.FINISHED if has_ended else status,
                stop_reason=stopped.message if stopped and not has_ended else None,
                output=str(self._target.path),
                output_digest=self._target.digest if is_published else "",
            )
            self._store.update_run(self._run_id, change)
        return has_ended
