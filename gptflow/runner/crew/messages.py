"""What a run and its workers say to each other.

The run decides and a worker does: it renders prompts, sends requests with the key that it is told,
reads replies, extracts fields. Of a question the run learns its call key and its size, of a reply
all that the store keeps. What a worker has said is not said again: it keeps the row's messages and
the reply that came, and goes on with it at once. The run hears of what follows when it has brought
that reply to the disk.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gptflow.records import Failure, Message


class Begin(msgspec.Struct, frozen=True, tag=0, array_like=True):
    """The first word to a worker."""

    version: str
    """The run's gptflow: another one may understand none of this."""
    plan: bytes
    """Pickled: it is compiled again there, from the files as they are."""
    plan_digest: str
    """What must come of it."""
    timeout_s: float
    connections: int
    """That are kept open between requests."""
    tells_messages: bool
    """Whether the run wants to see the questions: its simulator makes replies up from them."""
    craft: bytes | None = None
    """Pickled: an `inside.Craft`, where rows are not to be talked through."""


class TakeRow(msgspec.Struct, frozen=True, tag=1, array_like=True, gc=False):
    """A row to be talked through, as in records.Row; its columns are read from `raw`."""

    position: int
    record: int
    key: bytes
    ordinal: int
    raw: bytes


class KnowKey(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """An API key that calls will be sent with: what a config.KeyEntry says of requests."""

    number: int
    name: str
    api_key: str | None
    """None where the worker has a configuration of its own, and finds it there by the name."""
    base_url: str
    organization: str | None
    headers: list[tuple[str, str]]
    timeout_s: float | None

    def __repr__(self) -> str:
        return f"KnowKey({self.number}, {self.name!r})"


class SendCall(msgspec.Struct, frozen=True, tag=3, array_like=True, gc=False):
    """A call that was asked for may be sent, once, with this key."""

    call: int
    key: int


class Found(msgspec.Struct, frozen=True, tag=4, array_like=True, gc=False):
    """The call has a reply already, with this body."""

    call: int
    body: bytes


class Kept(msgspec.Struct, frozen=True, tag=5, array_like=True, gc=False):
    """The reply that came is on disk. Said of calls that are beside a conversation alone."""

    call: int


class NoReply(msgspec.Struct, frozen=True, tag=6, array_like=True):
    """The call has no reply, and will have none."""

    call: int
    failure: Failure
    truncated: bool
    """Of what was paid for all the same."""


class Raise(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """The call cannot be answered now: its row stays as it is."""

    call: int
    error: bytes
    """A GptflowError, pickled."""


class Ping(msgspec.Struct, frozen=True, tag=9, array_like=True):
    """Asks for a Pong."""


class Stop(msgspec.Struct, frozen=True, tag=8, array_like=True):
    """The last word to a worker."""


ToWorker = Begin | TakeRow | KnowKey | SendCall | Found | Kept | NoReply | Raise | Ping | Stop


class Ready(msgspec.Struct, frozen=True, tag=0, array_like=True):
    """The first word of a worker: it can take rows."""


class Unfit(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """The first word of a worker that can take none."""

    error: bytes
    """A GptflowError, pickled."""


class AskFor(msgspec.Struct, frozen=True, tag=2, array_like=True, gc=False):
    """A row has a question."""

    call: int
    """A number for it, of this worker."""
    position: int
    """Of the row."""
    is_beside: bool
    """Whether the row goes on only when the reply is on disk: a function of the user's, which may
    ask what it likes when it likes, could end the worker with a reply that it has not told of."""
    key: bytes
    """The call key."""
    step: str
    prompt_tokens: int
    """An estimate."""
    prefer: str | None
    """Name of the API key that the conversation is on."""
    rest: bytes | None = None
    """An `Unusual`, where there is something to say that the step does not say."""


class Unusual(msgspec.Struct, frozen=True, array_like=True):
    """What a call has that is not its step's."""

    model: str
    params: dict[str, Any]
    endpoint: str
    timeout_s: float | None
    messages: list[Message]
    """Empty where nobody wants them."""


class Answered(msgspec.Struct, frozen=True, tag=3, array_like=True, gc=False):
    """A call was sent, and there is a reply."""

    call: int
    body: bytes
    model: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    text: str
    """Only where the server does not tell how many tokens it has."""
    headers: dict[str, str]
    """Those that may tell limits."""


class Responded(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """A call was sent, and what came is no reply."""

    call: int
    status: int
    headers: dict[str, str]
    body: bytes


class Faulted(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """A call was sent, and no response came: an attempt.TransportFault."""

    call: int
    kind: str
    message: str
    hint: str | None
    was_stopped: bool


class RowEnd(msgspec.Struct, frozen=True, tag=6, array_like=True, gc=False):
    """A row has its result: a records.RowResult without the record, which the run has."""

    position: int
    fields: bytes
    failure: Failure | None
    calls: tuple[bytes, ...]
    truncated: bool


class RowBack(msgspec.Struct, frozen=True, tag=7, array_like=True):
    """A row was not brought to its end: its position, and the GptflowError why, pickled."""

    position: int
    error: bytes


class GivenUp(msgspec.Struct, frozen=True, tag=10, array_like=True):
    """Nobody waits for this call any more, which has not been sent."""

    call: int


class Pong(msgspec.Struct, frozen=True, tag=8, array_like=True):
    """The worker's event loop is alive."""


class Progress(msgspec.Struct, frozen=True, tag=9, array_like=True, gc=False):
    """How far a row has come that stands for many: a shard. Counts are of all its rows."""

    position: int
    rows: int
    done: int
    failed: int
    reused_calls: int
    """Of this worker's work on it."""
    is_first: bool
    """Whether what is counted was there before this worker's work."""


Outcome = Answered | Responded | Faulted
"""What came of a call that was sent."""

ToRun = Ready | Unfit | AskFor | Outcome | GivenUp | RowEnd | RowBack | Pong | Progress

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(list[ToWorker])
_to_run = msgspec.msgpack.Decoder(list[ToRun])

encoded = _encoder.encode
"""A list of messages as a batch."""
for_worker = _to_worker.decode
"""The messages of a batch to a worker."""
for_run = _to_run.decode
"""The messages of a batch to the run."""
