"""A row's conversation as a worker drives it: on the event loop, as long as that takes no time.

A regular expression that searches a reply for a second would hold up all rows for so long, and so
would a function of the user's. Such a conversation goes through the same replies once more in a
thread, and stays there: it depends on nothing else.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from gptflow.pipeline.conversation import Conversation, HookCall, converse
from gptflow.pipeline.extract.invalid import TakesLong
from gptflow.pipeline.hook import HookFault
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Fields, Reply, Row
from gptflow.runner.hook_call import Ask, call_hook, in_thread

Said = Call | HookCall | Fields


class Dialogue:
    """The conversation of one row."""

    def __init__(self, plan: Plan, row: Row, ask: Ask | None = None) -> None:
        """`ask` answers what a function of the user's asks; without it none may ask."""
        self._plan = plan
        self._row = row
        self._ask = ask
        self._sent: list[Any] = []
        """The answers so far: replies, and what functions gave or raised."""
        self._conversation = converse(plan, row, patient=False)
        self._is_quick = True

    async def begin(self) -> Call | Fields:
        """The first call; the row's fields if it asks nothing.

        Raises:
            RowFailed: it is the end of the row.
            RunStopped, StoreError: by way of `ask`.
        """
        return await self._after_hooks(_sent(self._conversation, None))

    async def up_to_question(self) -> Said:
        """As `begin`, but a function that may ask the model is not called: it is given as it is."""
        said = _sent(self._conversation, None)
        while isinstance(said, HookCall) and not said.may_ask:
            said = await self._after(said)
        return said

    async def answer(self, reply: Reply) -> Call | Fields:
        """What comes of the reply to the last call: the next one, or the row's fields.

        Raises as `begin`.
        """
        return await self._after_hooks(await self._next(reply))

    async def _after_hooks(self, said: Said) -> Call | Fields:
        """Calls the functions that the conversation wants, until it wants something else."""
        while isinstance(said, HookCall):
            said = await self._after(said)
        return said

    async def _after(self, wanted: HookCall) -> Said:
        given: Fields | HookFault
        try:
            given = await call_hook(wanted, self._ask)
        except HookFault as fault:
            given = fault
        return await self._next(given)

    async def _next(self, answer: Any) -> Said:
        self._sent.append(answer)
        if self._is_quick:
            try:
                return _sent(self._conversation, answer)
            except TakesLong:
                self._is_quick = False
                self._conversation = converse(self._plan, self._row)
                return await in_thread(self._all_sent_again)
        return await in_thread(partial(_sent, self._conversation, answer))

    def _all_sent_again(self) -> Said:
        said = _sent(self._conversation, None)
        for answer in self._sent:
            said = _sent(self._conversation, answer)
        return said


def _sent(conversation: Conversation, answer: Any) -> Said:
    try:
        if isinstance(answer, HookFault):
            return conversation.throw(answer)
        return conversation.send(answer)
    except StopIteration as end:
        fields: Fields = end.value
        return fields
