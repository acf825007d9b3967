"""What must hold after every crash: looked up in the store, the outputs and the server's log.

`Invariants` is told of each session: a process that worked on the run, and what it asked. It notes
in words every promise that is broken.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptflow.errors import GptflowError
from gptflow.mock.log import LogEntry
from gptflow.store.ledger import split_keys
from gptflow.store.reader import StoreReader
from gptflow.store.record import RunRecord, position_of, row_id

ID_CHARACTERS = 29
"""Of a request's hash: as many stand in the id of its answer, and so in the store."""
PENDING, DONE = 0, 1


@dataclass(slots=True)
class Session:
    """One process, and what became of what it asked."""

    name: str
    entries: Sequence[LogEntry]
    """Its requests that were answered or broke off, in this order."""
    may_repeat: int
    """How many of its calls may be asked again: none where it was let to end well."""
    is_killed: bool = False
    """Whether it ended before its run did."""
    asked_again: int = 0
    paid_again: int = 0
    """Those of them whose answer the server had handed to the connection."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the run should come to."""

    rows: int
    done: Sequence[dict[str, Any]]
    """The rows of the output."""
    failed: Sequence[dict[str, Any]]
    """The records of the rows that fail."""
    shared: str
    """The one question that is the same for all rows; each wants an answer of its own."""


@dataclass(slots=True)
class Stored:
    """What has been found in the store so far."""

    calls: Counter[str] = field(default_factory=Counter)
    """Replies by the beginning of their request's hash."""
    keys: Counter[bytes] = field(default_factory=Counter)
    last_call: int = 0
    ended: dict[int, tuple[object, ...]] = field(default_factory=dict)
    """The results of rows that have ended, by position."""


class Invariants:
    """Watches one run through all its crashes."""

    def __init__(self, folder: Path, name: str, expected: Expected) -> None:
        """`folder`: where the run is started, with out.jsonl beside; `name`: the spec's."""
        self.broken: list[str] = []
        self.repeated = self.lost = self.doubled = 0
        """Stored answers that were asked for again; rows that are in no output, or in it twice."""
        self._expected = expected
        self._store = folder / ".gptflow" / f"{name}.db"
        self._output = folder / "out.jsonl"
        self._failed = folder / "out.failed.jsonl"
        self._before = (_content(self._output), _content(self._failed))
        self._stored = Stored()
        self._left: dict[str, tuple[Session, bool]] = {}
        """Calls that a session left without a stored reply; whether they had been answered."""
        self._shared = ""
        """The beginning of the hash of the question that rows share."""
        self._asked = False
        self._session = ""

    def check(self, session: Session) -> None:
        """To be called after each session, once no request is in flight."""
        self._session = session.name
        self._asked |= bool(session.entries)
        for entry in session.entries:
            if entry.request and entry.user == self._expected.shared:
                self._shared = entry.request[:ID_CHARACTERS]
        self._check_repeats(session)
        shared_before = self._stored.calls[self._shared]
        try:
            with closing(_reading(self._store)) as database:
                run = _latest_run(self._store)
                self._check_store(database, run)
        except (GptflowError, sqlite3.Error) as error:
            if self._asked:
                self._break(f"the store cannot be read: {error}")
            return
        self._note_open(session, shared_before)
        self._check_outputs()

    def check_end(self) -> None:
        """To be called when the run has come to its end."""
        expected = self._expected
        if _rows(self._output) != list(expected.done):
            self._break("the output is not what it should be")
        failed = [record["row"] for record in _rows(self._failed)]
        seen = Counter(row["number"] for row in (*_rows(self._output), *failed))
        self.lost = expected.rows - len(seen)
        self.doubled = seen.total() - len(seen)
        if failed != list(expected.failed):
            self._break(f"failed rows: {failed} for {expected.failed}")
        doubled = sum(count > 1 for count in self._stored.keys.values())
        if doubled:
            self._break(f"{doubled} calls have two stored replies")
        if len(self._stored.ended) != expected.rows:
            self._break(f"{len(self._stored.ended)} rows have ended")

    def _break(self, what: str) -> None:
        self.broken.append(f"after {self._session}: {what}")

    # ------------------------------------------------------------------ the server's log

    def _check_repeats(self, session: Session) -> None:
        """Nothing that was answered and stored before this session was asked in it."""
        asked = Counter(entry.request[:ID_CHARACTERS] for entry in session.entries if entry.request)
        for request in asked:
            if request == self._shared:
                continue
            if request in self._stored.calls:
                self.repeated += 1
                self._break(f"asked again, though its answer is stored: {request}")
            if request in self._left:
                before, was_paid = self._left.pop(request)
                before.asked_again += 1
                before.paid_again += was_paid

    def _note_open(self, session: Session, shared_before: int) -> None:
        """Notes the calls whose answers are lost, and sees that they are no more than may be."""
        lost: dict[str, bool] = {}
        shared = Counter[bool]()
        for entry in session.entries:
            if entry.request is None or not _may_be_paid(entry):
                continue
            request, is_answered = entry.request[:ID_CHARACTERS], entry.status == 200
            if request == self._shared:
                shared[is_answered] += 1
            elif request not in self._stored.calls:
                lost[request] = lost.get(request, False) or is_answered
        self._left |= {request: (session, is_answered) for request, is_answered in lost.items()}
        gained = self._stored.calls[self._shared] - shared_before
        shared_lost = max(0, shared.total() - gained)
        session.asked_again += shared_lost  # the rows that want it are still to do
        session.paid_again += max(0, shared[True] - gained)
        if len(lost) + shared_lost > session.may_repeat:
            self._break(f"{len(lost) + shared_lost} calls lost, {session.may_repeat} may be")

    # ------------------------------------------------------------------ the store

    def _check_store(self, database: sqlite3.Connection, run: RunRecord | None) -> None:
        (damage,) = database.execute("PRAGMA quick_check").fetchone()
        if damage != "ok":
            self._break(f"the store is damaged: {damage}")
        self._check_calls(database)
        if run is None:
            if self._asked:
                self._break("the store has no run")
            return
        numbers = (row_id(run.run_id, 0), row_id(run.run_id + 1, 0))
        ledger = "SELECT row_id, status FROM ledger WHERE row_id >= ? AND row_id < ?"
        statuses = {position_of(number): at for number, at in database.execute(ledger, numbers)}
        if sorted(statuses) != list(range(self._expected.rows)):
            self._break(f"the ledger has {len(statuses)} rows")
        results = "SELECT * FROM results WHERE row_id >= ? AND row_id < ?"
        ended = {position_of(row[0]): row[1:] for row in database.execute(results, numbers)}
        self._check_rows(statuses, ended)

    def _check_calls(self, database: sqlite3.Connection) -> None:
        stored = self._stored
        new = "SELECT call_id, call_key, body FROM calls WHERE call_id > ? ORDER BY call_id"
        for call_id, key, body in database.execute(new, (stored.last_call,)):
            stored.calls[json.loads(body)["id"].removeprefix("chatcmpl-")] += 1
            stored.keys[key] += 1
            stored.last_call = call_id
        (count,) = database.execute("SELECT count(*) FROM calls").fetchone()
        (used,) = database.execute("SELECT coalesce(sum(calls), 0) FROM usage").fetchone()
        if not count == used == stored.calls.total():
            self._break(f"{stored.calls.total()} replies seen, {count} stored, {used} counted")

    def _check_rows(self, statuses: dict[int, int], ended: dict[int, tuple[Any, ...]]) -> None:
        """Each row that ended has a result with its replies; none is pending again."""
        if {at for at, status in statuses.items() if status != PENDING} != set(ended):
            self._break("rows without a result, or results of rows that are to do")
        for position, (_, _, failure, calls, _) in ended.items():
            if (failure is None) != (statuses.get(position) == DONE):
                self._break(f"row {position} has a result that is not of its status")
            if not set(split_keys(calls)) <= self._stored.keys.keys():
                self._break(f"row {position} has ended without its replies")
        for position, result in self._stored.ended.items():
            if ended.get(position) != result:
                self._break(f"row {position} had ended, and is not what it was")
        self._stored.ended = ended

    # ------------------------------------------------------------------ the outputs

    def _check_outputs(self) -> None:
        """Each is what it was before the run, or whole; what grows has the first rows."""
        is_over = len(self._stored.ended) == self._expected.rows
        contents = (_content(self._output), _content(self._failed))
        for path, content, before in zip(
            (self._output, self._failed), contents, self._before, strict=True
        ):
            if content != before and not is_over:
                self._break(f"{path.name} was written before its time")
        if contents[0] != self._before[0] and _rows(self._output) != list(self._expected.done):
            self._break("the output is not whole")
        part = _content(self._output.with_name("out.jsonl.part")) or b""
        whole = [json.loads(line) for line in part.split(b"\n")[:-1]]
        if whole != list(self._expected.done[: len(whole)]):
            self._break("the output grows in another order")


def _may_be_paid(entry: LogEntry) -> bool:
    """Whether the server answered, or was about to when the connection broke off."""
    return entry.status == 200 or (entry.status is None and entry.failure is None)


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def _latest_run(path: Path) -> RunRecord | None:
    with StoreReader(path) as reader:
        return reader.latest_run()


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_content(path) or b"").splitlines()]
