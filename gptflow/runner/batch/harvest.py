"""What came of a batch, line by line into the store: its replies, and why others have none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from gptflow.engine.batch_line import BatchAnswer, read_line
from gptflow.engine.verdicts import Verdict, VerdictKind
from gptflow.records import Call, Reply
from gptflow.runner.batch.faults import are_enough, packed, unpacked
from gptflow.runner.batch.flights import Flight
from gptflow.runner.events import CallAnswered, Listener
from gptflow.runner.purse import Purse, untold
from gptflow.store.batches import BatchCall, BatchRecord
from gptflow.store.store import Store

CHUNK, CHUNK_BYTES = 500, 8_000_000
"""Lines that are brought to the disk together: so many, or a few of so many bytes."""
CANCELLED = "batch_cancelled"

_OF_THE_KEY = frozenset(
    {VerdictKind.EXHAUSTED, VerdictKind.RETIRED, VerdictKind.NO_MODEL, VerdictKind.STOP}
)


class _Save(NamedTuple):
    future: asyncio.Future[None]
    event: CallAnswered


class Harvest:
    """Brings what has been downloaded into the store. May be killed and begun again anywhere."""

    def __init__(
        self, store: Store, run_id: int, attempts: int, purse: Purse | None, emit: Listener
    ) -> None:
        self._store = store
        self._book = store.batches
        self._run_id = run_id
        self._attempts = attempts
        self._purse = purse
        self._emit = emit
        self.on_key_verdict: Callable[[BatchRecord, Verdict], None] = lambda _record, _verdict: None
        """Told of a line that came back for want of money, of rights or of the model."""

    async def bring_in(self, flight: Flight, path: Path) -> int:
        """Store all lines of a file that are still on their way; each is on disk on return.

        Gives how many lines cannot be read.
        """
        unreadable = 0
        with path.open("rb") as file:
            while lines := list(_chunk(file)):
                unreadable += await self._store_lines(flight.record, lines)
        return unreadable

    async def _store_lines(self, record: BatchRecord, lines: list[bytes]) -> int:
        answers, unreadable = _read(lines)
        waiting = self._book.lines(record.batch_id, list(answers))
        saves: list[_Save] = []
        faults: list[tuple[bytes, bytes | None]] = []
        for call_key, call in waiting.items():
            result = answers[call_key].result
            if isinstance(result, Verdict):
                self._note(record, call, result, saves, faults)
            else:
                saves.append(self._save(record, call, result))
        if faults:
            await asyncio.to_thread(self._book.add_faults, record, faults)
        for saved in saves:
            await saved.future
            self._emit(saved.event)
        return unreadable

    def _note(
        self,
        record: BatchRecord,
        call: BatchCall,
        verdict: Verdict,
        saves: list[_Save],
        faults: list[tuple[bytes, bytes | None]],
    ) -> None:
        """A call that came back without an answer that its row can use."""
        if verdict.code == CANCELLED:
            return  # it is told of the batch as a whole
        if verdict.kind in _OF_THE_KEY:
            self.on_key_verdict(record, verdict)
            faults.append((call.call_key, None))
        elif verdict.reply is None:
            faults.append((call.call_key, packed(verdict)))
        else:  # it was paid for all the same
            before = unpacked(self._book.faults(record.run_id, call.call_key))
            is_final = are_enough([*before, verdict], self._attempts)
            saves.append(self._save(record, call, verdict.reply, verdict, is_final=is_final))

    def _save(
        self,
        record: BatchRecord,
        call: BatchCall,
        reply: Reply,
        verdict: Verdict | None = None,
        *,
        is_final: bool = True,
    ) -> _Save:
        """Queue a reply, the end of its line, and what it is charged, as one write."""
        reply = msgspec.structs.replace(reply, key_name=record.key_name)
        asked = Call(call.call_key, call.step, record.model, [], {}, prompt_tokens=call.tokens)
        estimated = untold(asked, reply)
        fault = None if verdict is None else packed(verdict)
        along = self._book.arrival(record, call.call_key, reply.usage, estimated, fault)
        saved = self._store.save_reply(
            record.run_id, asked, reply, estimated, stale=not is_final, along=along
        )
        if self._purse and record.run_id == self._run_id:
            self._purse.pay(self._purse.quote(asked), reply)
        return _Save(saved, CallAnswered(call.step, record.model, reply.usage, reused=False))


def _chunk(file: BinaryIO) -> Iterator[bytes]:
    """The next lines of a file."""
    size_bytes = 0
    for line in islice(file, CHUNK):
        yield line
        size_bytes += len(line)
        if size_bytes >= CHUNK_BYTES:
            return


def _read(lines: list[bytes]) -> tuple[dict[bytes, BatchAnswer], int]:
    """The answers by their call keys, and how many lines are none.

    Of several lines of a call one with a reply counts: that was paid for.
    """
    now, unreadable = time.time(), 0
    answers: dict[bytes, BatchAnswer] = {}
    for line in filter(bytes.strip, lines):
        answer = read_line(line, now)
        if answer is None:
            unreadable += 1
        elif not (isinstance(answer.result, Verdict) and answer.call_key in answers):
            answers[answer.call_key] = answer
    return answers, unreadable
