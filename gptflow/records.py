"""The values that travel between the rooms: rows, calls, replies, failures, results.

All are frozen, without behaviour that could wait or fail, and picklable: they cross threads,
processes and machines. Sizes that grow with the data are bytes, not objects.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

Message = dict[str, Any]
"""One turn of a conversation in the wire form of the chat completions API: role and content."""

Columns = dict[str, Any]
"""A record of the source by column name."""

Fields = dict[str, Any]
"""What the steps have added to a row, by field name."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One record of the source that the spec selects.

    The record is kept twice: `raw` is its JSON text as it came, which goes to the output
    unchanged; `columns` is what templates see.
    """

    position: int
    """Place among the selected rows, from 0. The output is in this order; identity is `key`."""
    record: int
    """Place among all records of the source, from 0, the unselected ones counted too."""
    key: bytes
    """The row key. 8 bytes: a hash of the `id` columns; 16 where the spec names none: a hash of
    the whole record."""
    ordinal: int
    """Place among the rows with the same key, from 0."""
    raw: bytes
    """The record as one JSON object in UTF-8: for .jsonl the very bytes of the line."""
    columns: Columns
    """The same record, decoded."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens that the server says it counted. None where it did not say, which is not 0."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """The part of prompt_tokens that the provider had in its prompt cache."""


class Call(msgspec.Struct, frozen=True):
    """One question to a model."""

    key: bytes
    """16 bytes, the call key: a hash of endpoint, model, messages and parameters, and of row,
    step and sample where the answer is not deterministic (see pipeline.identity)."""
    step: str
    model: str
    messages: list[Message]
    params: dict[str, Any]
    """Parameters of the API as they go into the body: temperature, max_tokens, ..."""
    endpoint: str = "chat/completions"
    """Path below the base URL."""
    timeout_s: float | None = None
    """Deadline for one attempt, in place of the key's or the engine's. Part of no hash."""
    prompt_tokens: int | None = None
    """An estimate, where the messages are not at hand: a worker elsewhere has them."""


class Reply(msgspec.Struct, frozen=True):
    """A model's answer to a call."""

    text: str
    """The content of the message; empty when there is none."""
    finish_reason: str | None
    usage: Usage
    model: str
    """The model that answered, as the server names it."""
    body: bytes
    """The response body as it came: the store keeps exactly this."""
    key_name: str = ""
    """Name of the API key that served it; empty for a reply out of the store."""
    attempts: int = 1
    """Requests that it took, the one that was answered included."""
    latency_s: float = 0.0
    """Seconds from sending the answered request to its last byte."""

    @property
    def truncated(self) -> bool:
        """Whether the model was cut off by a token limit."""
        return self.finish_reason == "length"


class FailureKind(StrEnum):
    """Why a row failed: a closed list, so that failures can be counted and retried by kind."""

    REJECTED = "rejected"
    """The server will never accept this call: 400, 404, 413, 422, context length."""
    REFUSED = "refused"
    """Content filter, policy, or the model's own refusal."""
    INVALID = "invalid"
    """A reply came, but no extractor accepts it."""
    EMPTY = "empty"
    """A reply came with no content."""
    SERVER = "server"
    """Server errors (5xx, 408, 409, unreadable replies) on every attempt."""
    TIMEOUT = "timeout"
    """No whole reply in time, on every attempt."""
    TRANSPORT = "transport"
    """No connection, or it broke, on every attempt."""
    TEMPLATE = "template"
    """A prompt cannot be rendered for this row."""
    HOOK = "hook"
    """Your own Python failed on this row, or gave something else than it should."""
    WORKER = "worker"
    """The workers that had the row died, one after the other."""
    BUG = "bug"
    """gptflow itself failed on this row. Please report it."""


class Failure(msgspec.Struct, frozen=True):
    """Why a call or a row failed. Plain data: never the SDK's exception, which carries the key."""

    kind: FailureKind
    message: str
    """One line for a person."""
    step: str = ""
    status: int | None = None
    """The HTTP status of the last attempt, if there was one."""
    code: str | None = None
    """The provider's own code, such as context_length_exceeded."""
    attempts: int = 0
    """Requests that were charged to the row."""
    replies: int = 0
    """How many of the row's last stored replies led here: `--retry failed` asks these again."""
    reply: str | None = None
    """The last reply's text, where there was one: for the file of failed rows."""
    history: tuple[str, ...] = ()
    """The last attempts of the call in their order: key, status and message of each."""


def unwritable(step: str) -> Failure:
    """The failure of a call whose messages have no bytes."""
    message = "a message holds half of a surrogate pair, which UTF-8 cannot carry"
    return Failure(FailureKind.REJECTED, message, step=step)


class RowStatus(StrEnum):
    """Where a row of a run stands."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class RowResult(msgspec.Struct, frozen=True):
    """A row of a run with what became of it. `fields` and `failure` exclude each other."""

    position: int
    status: RowStatus
    raw: bytes
    """The record of the source, as in Row.raw."""
    fields: bytes = b"{}"
    """The fields as one JSON object, in the order of the spec."""
    failure: Failure | None = None
    calls: tuple[bytes, ...] = ()
    """Call keys in the order they were asked: the row's conversation can be read back by them."""
    truncated: bool = False
    """Whether any of the replies was cut off by a token limit."""
