"""What a run came to: the value that `gptflow.run` gives and that the command line shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gptflow.data.json_text import parse_object
from gptflow.records import RowStatus
from gptflow.store.reader import StoreReader
from gptflow.store.record import FailureGroup


class Ending(StrEnum):
    """How a command's work on a run ended."""

    FINISHED = "finished"
    """Every row is done or failed."""
    STOPPED = "stopped"
    """No call could be answered any more; resumable."""
    INTERRUPTED = "interrupted"
    """By Ctrl-C or a signal; resumable."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The counts of a run, after this command's work on it."""

    run: int
    """The run's number in its store."""
    name: str
    status: Ending
    rows: int
    done: int
    failed: int
    calls: int
    """Calls that this command asked and paid."""
    reused_calls: int
    """Calls that the store answered."""
    reused_rows: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None where a model has no known price."""
    wall_s: float
    output: Path
    store: Path
    server: str = ""
    """"" for paid keys, "mock", or "local:MODEL"."""
    failures: tuple[FailureGroup, ...] = ()
    """Failed rows of the run by reason, the most frequent first."""
    message: str | None = None
    """Why the run stopped, where it did."""
    next_options: tuple[str, ...] = ()
    """What the same command needs in addition to go on, where a limit has stopped it."""
    signal: int | None = None
    """The signal that interrupted it, where one did."""
    nothing_to_do: bool = False
    """Whether the run had ended before."""

    @property
    def exit_code(self) -> int:
        """0: all rows done; 1: some failed; 3: stopped; 129, 130 or 143: interrupted."""
        if self.status is Ending.INTERRUPTED:
            return 128 + (self.signal or 2)
        if self.status is Ending.STOPPED:
            return 3
        return 1 if self.failed else 0

    @property
    def pending(self) -> int:
        """Rows that are neither done nor failed."""
        return self.rows - self.done - self.failed

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """The done rows in input order, columns and fields in one dict, streamed from the store.

        Of a run shard by shard: those of the shards whose stores are there, one after the other.
        """
        if not self.store.is_dir():
            yield from _done_rows(self.store, self.run)
            return
        for shard in sorted(self.store.rglob("*.db")):
            with StoreReader(shard) as reader:
                run = reader.latest_run(self.server)
            if run is not None:
                yield from _done_rows(shard, run.run_id)

    def as_json(self) -> dict[str, Any]:
        """The object that `gptflow run --json` prints."""
        return {
            "run": self.run,
            "status": self.status.value,
            "rows": self.rows,
            "done": self.done,
            "failed": self.failed,
            "calls": self.calls,
            "reused_calls": self.reused_calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            "wall_s": round(self.wall_s, 3),
            "output": str(self.output),
        }


def _done_rows(store: Path, run_id: int) -> Iterator[dict[str, Any]]:
    with StoreReader(store) as reader:
        for result in reader.results(run_id):
            if result.status is RowStatus.DONE:
                place = (f"{store}, row", result.position + 1)
                yield {**parse_object(result.raw, place), **parse_object(result.fields, place)}
