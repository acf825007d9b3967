"""Talking a row through in a round: as far as the store answers, and no further."""

from __future__ import annotations

import msgspec

from gptflow.records import Row, RowResult
from gptflow.runner.batch.asker import AskedLater
from gptflow.runner.batch.faults import told
from gptflow.runner.talk import Talk
from gptflow.store.batches import Batches


class RoundTalk:
    """What brings rows to their results in batch mode; a row that waits for a batch has none."""

    def __init__(self, talk: Talk, book: Batches, run_id: int) -> None:
        self._talk = talk
        self._book = book
        self._run_id = run_id

    async def converse(self, row: Row) -> RowResult | None:
        """What became of a row; None if it goes on in a later round."""
        try:
            return self._with_attempts(await self._talk.converse(row))
        except AskedLater:
            return None

    def _with_attempts(self, result: RowResult) -> RowResult:
        """The result; where a stored reply has failed the row, with the attempts that led there."""
        failed = result.failure
        if failed is None or failed.attempts or not failed.replies:
            return result
        faults = self._book.faults(self._run_id, result.calls[-1])
        return msgspec.structs.replace(result, failure=told(failed, faults)) if faults else result
