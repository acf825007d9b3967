"""Replies out of the store: read as they were when they came, the refusals among them too."""

from __future__ import annotations

from gptflow.engine import wire
from gptflow.engine.attempt import Response
from gptflow.engine.verdicts import failure_of, judge_flaw
from gptflow.errors import CallFailed, StoreCorrupt
from gptflow.records import Call, Reply


def stored_reply(call: Call, body: bytes) -> Reply:
    """The reply in a body that was stored for a call.

    Raises:
        CallFailed: it is a refusal, or empty: paid for, and the same again without asking.
        StoreCorrupt: it is no reply any more.
    """
    reply = wire.decode(body)
    if isinstance(reply, Reply):
        return reply
    if reply.reply is None:
        raise StoreCorrupt(
            f"a stored reply cannot be read: {reply.message}",
            hint="gptflow doctor SPEC --repair  drops it, and the same command asks that anew",
        )
    verdict = judge_flaw(reply, Response(200, {}, body), now_wall=0.0)
    raise CallFailed(failure_of(verdict, call.step, attempts=0), reply.reply)


def is_readable(body: bytes) -> bool:
    """Whether this is a reply as it was stored, be it a refusal."""
    reply = wire.decode(body)
    return isinstance(reply, Reply) or reply.reply is not None
