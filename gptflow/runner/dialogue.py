"""A row's conversation as a worker drives it: on the event loop, as long as that takes no time.

A regular expression that searches a reply for a second would hold up all rows for so long. Such a
conversation goes through the same replies once more in a thread: it depends on nothing else.
"""

from __future__ import annotations

import asyncio

from gptflow.pipeline.conversation import Conversation, converse
from gptflow.pipeline.extract.invalid import TakesLong
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Fields, Reply, Row


class Dialogue:
    """The conversation of one row."""

    def __init__(self, plan: Plan, row: Row) -> None:
        self._plan = plan
        self._row = row
        self._replies: list[Reply] = []
        self._conversation = converse(plan, row, patient=False)
        self._is_quick = True

    def begin(self) -> Call | Fields:
        """The first call; the row's fields if it asks nothing. Raises RowFailed."""
        return _sent(self._conversation, None)

    async def answer(self, reply: Reply) -> Call | Fields:
        """What comes of the reply to the last call: the next one, or the row's fields.

        Raises:
            RowFailed: it is the end of the row.
        """
        self._replies.append(reply)
        if self._is_quick:
            try:
                return _sent(self._conversation, reply)
            except TakesLong:
                self._is_quick = False
        return await asyncio.to_thread(self._answered_again)

    def _answered_again(self) -> Call | Fields:
        conversation = converse(self._plan, self._row)
        said = _sent(conversation, None)
        for reply in self._replies:
            said = _sent(conversation, reply)
        return said


def _sent(conversation: Conversation, reply: Reply | None) -> Call | Fields:
    try:
        return next(conversation) if reply is None else conversation.send(reply)
    except StopIteration as end:
        fields: Fields = end.value
        return fields
