"""What the store is given and gives back about runs, and how a row is numbered in it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

LedgerRow = tuple[int, int, bytes]
"""Position, record and row key (16 bytes) of a row, as in records.Row."""

POSITION_BITS = 40
KEY_BYTES = 16


def row_id(run_id: int, position: int) -> int:
    """The number of a row in the tables `ledger` and `results`.

    A run's rows have the numbers from row_id(run_id, 0) up to row_id(run_id + 1, 0), exclusive.
    """
    return run_id << POSITION_BITS | position


def position_of(row_number: int) -> int:
    """The position of the row with that number, within its run."""
    return row_number & ((1 << POSITION_BITS) - 1)


class RunStatus(StrEnum):
    """Where a run stands."""

    PREPARING = "preparing"
    """Its ledger is being written. Found at the opening of a store, it is dropped."""
    RUNNING = "running"
    """It has pending rows, and a process that works on them."""
    INTERRUPTED = "interrupted"
    """Its process ended, of itself or killed, before its rows did."""
    STOPPED = "stopped"
    """A limit or an error that concerns all rows ended it; see `stop_reason`."""
    FINISHED = "finished"
    """No row is pending."""


class RunDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run before its rows have been counted."""

    name: str
    plan_digest: str
    """Equal for two runs that ask the same of a row."""
    source_fingerprint: str
    spec: str
    """The spec's text as it was."""
    spec_file: str
    server: str = ""
    """Who answers: empty for the real thing, else `mock` or `local:MODEL`. Replies and rows of one
    server are never taken for another's."""
    fresh: bool = False
    """Whether it was to ask everything again: it then reuses its own replies alone."""
    since_run: int = 0
    """Replies and rows of runs before this one are not reused. A fresh run's own number; handed
    on to the run that takes over from a fresh one which did not end."""
    output: str = ""
    fields: tuple[str, ...] = ()
    """The fields that its rows get, in the order of the spec."""
    version: str = ""
    """The gptflow that ran it."""


class RunRecord(RunDraft, frozen=True, kw_only=True):
    """A run as the store knows it."""

    run_id: int
    status: RunStatus
    started_at: float
    """Seconds since 1970."""
    ended_at: float | None
    stop_reason: str
    output_digest: str
    ledger_digest: str
    """The LedgerDigest of the source's rows: the same as long as they are."""
    rows: int
    columns: tuple[str, ...]
    """The columns of the source."""


class Surveyed(NamedTuple):
    """What is known of a source once its last row has been read."""

    columns: Sequence[str] = ()
    proof: str = ""
    """What to know the bytes by that the rows were read from; empty if nothing proves them."""


class RowCounts(NamedTuple):
    """How many rows of a run stand where."""

    pending: int
    done: int
    failed: int


class ModelUsage(NamedTuple):
    """What a run asked of one model. A sum is None if no reply said anything about it."""

    model: str
    calls: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None


class PendingRow(NamedTuple):
    """A row of a run that is still to be worked on, as in records.Row."""

    position: int
    record: int
    row_key: bytes
    ordinal: int


class FailureGroup(NamedTuple):
    """Failed rows whose messages differ in numbers and details only."""

    kind: str
    message: str
    """The reason, where it is the same for all; else its beginning that they share, to a colon."""
    rows: int


class DuplicateKey(NamedTuple):
    """A row key that several rows of a run have."""

    row_key: bytes
    records: tuple[int, ...]
    """The first few of them, ascending."""
    rows: int
    """How many there are in all."""
