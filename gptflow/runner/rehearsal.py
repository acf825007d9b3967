"""Rehearsing: replies for the simulator that a spec's extractors accept.

The simulator sees requests, not steps. So every call that is about to be asked is noted here, and
the reply to a request is made up for the step whose call has these very messages.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from gptflow.engine.caller import Send
from gptflow.pipeline.extract.example import example_reply
from gptflow.pipeline.identity import digest_of
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Reply
from gptflow.runner.desk import Asker


class Rehearsal:
    """Makes up replies for the steps of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._steps = {step.name: step for step in plan.steps}
        self._asked: dict[str, list[str]] = {}
        """The steps that are asking with these messages: rows with equal texts ask at once."""

    def reply(self, request: dict[str, Any]) -> str:
        """A reply to a request body, always the same for the same one.

        Where no reply can be made up that the extractors accept, it is the prompt's echo.
        """
        digest = digest_of([request.get("model"), request.get("messages")])
        steps = self._asked.get(digest)
        pick = int.from_bytes(blake2b(digest.encode(), digest_size=4).digest())
        example = example_reply(self._steps[steps[-1]].extractors, pick) if steps else None
        return _last_words(request) if example is None else example

    def note(self, call: Call) -> None:
        """A call is about to be asked at any time from now on."""
        digest = digest_of([call.model, call.messages])
        self._asked.setdefault(digest, []).append(call.step)

    def noting(self, engine: Asker) -> Asker:
        """An engine that tells the rehearsal what it is about to ask."""
        return _NotingAsker(engine, self._asked)


class _NotingAsker:
    def __init__(self, engine: Asker, asked: dict[str, list[str]]) -> None:
        self._engine = engine
        self._asked = asked

    async def ask(
        self, call: Call, *, prefer: str | None = None, send: Send | None = None
    ) -> Reply:
        digest = digest_of([call.model, call.messages])
        asking = self._asked.setdefault(digest, [])
        asking.append(call.step)
        try:
            return await self._engine.ask(call, prefer=prefer, send=send)
        finally:
            asking.remove(call.step)
            if not asking:
                self._asked.pop(digest, None)


def _last_words(request: dict[str, Any]) -> str:
    """What a request ends with. One that completes a text has no messages."""
    messages = request.get("messages")
    return str(messages[-1]["content"] if messages else request.get("prompt"))
