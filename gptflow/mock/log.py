"""One line of JSON for each request, in a file that others may read meanwhile."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from gptflow.errors import ConfigError
from gptflow.mock.answer import Answer, Incoming

_FLUSH_AFTER_S = 0.05
_USER_CHARACTERS = 200


class LogEntry(msgspec.Struct, frozen=True):
    """What became of one request."""

    time: float
    """Unix time of the arrival."""
    number: int
    """In the order of arrival, from 1."""
    key: str
    """The last four characters of the key."""
    path: str
    model: str | None
    """This and the rest of the question are None where it could not be understood."""
    request: str | None
    """SHA-256 of messages and parameters, in hex: the same for the same question."""
    user: str | None
    """The beginning of the last user message."""
    in_flight: int
    """How many others were being served."""
    status: int | None
    """None if the client left before the answer."""
    failure: str | None
    """The name in the catalogue."""
    latency_s: float
    """From the arrival to the last byte handed to the connection."""
    prompt_tokens: int
    """What the answer bills; 0 for a failure."""
    completion_tokens: int
    answered: bool
    """Whether the whole answer was handed to the connection."""
    method: str
    lines: int | None
    """The lines of a file that was uploaded or downloaded, or of a batch that was created."""
    made: str | None
    """The id of a file that was uploaded, or of a batch that was created."""


class RequestLog:
    """Appends entries to a file. They are there after 50 ms, and when it is closed."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(f"{path}: the log cannot be written: {error.strerror}") from None
        self._lines: list[bytes] = []

    def write(self, entry: LogEntry) -> None:
        """Take an entry; within the server's loop, which flushes it soon."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_FLUSH_AFTER_S, self.flush)
        self._lines.append(msgspec.json.encode(entry))

    def flush(self) -> None:
        """Write what is there, in whole lines."""
        if self._lines:
            block = memoryview(b"\n".join([*self._lines, b""]))
            self._lines.clear()
            while block:
                block = block[os.write(self._descriptor, block) :]

    def close(self) -> None:
        """Flush and close. The loop has ended by then."""
        self.flush()
        os.close(self._descriptor)


class Arrival(msgspec.Struct, frozen=True):
    """When a request came, and among how many."""

    number: int
    unix_s: float
    in_flight: int
    """How many others were being served."""


def entry_of(
    incoming: Incoming, answer: Answer, arrival: Arrival, latency_s: float, *, answered: bool
) -> LogEntry:
    """The line for a request that is through."""
    request = answer.request
    return LogEntry(
        time=arrival.unix_s,
        number=arrival.number,
        key=incoming.key[-4:],
        path=incoming.path,
        model=request.model if request else None,
        request=request.digest.hex() if request else None,
        user=request.user[:_USER_CHARACTERS] if request else None,
        in_flight=arrival.in_flight,
        status=answer.status if answered else None,
        failure=answer.failure,
        latency_s=round(latency_s, 6),
        prompt_tokens=request.prompt_tokens if request and answer.completion_tokens else 0,
        completion_tokens=answer.completion_tokens,
        answered=answered,
        method=incoming.method,
        lines=answer.lines,
        made=answer.made,
    )
