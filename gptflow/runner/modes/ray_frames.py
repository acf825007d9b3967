"""What a run and the process that speaks with Ray for it say to each other, over `crew.frames`."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec


class Kind(IntEnum):
    """What a frame is."""

    JOIN = 1
    """The run's first: a Wanted."""
    JOINED = 2
    """The answer, where there is such a cluster: a Size."""
    REFUSED = 3
    """The answer, where there is none: a Refused."""
    HIRE = 4
    """From the run: there shall be a worker on this line."""
    PLACED = 5
    """To the run: it has a place, and begins to work."""
    BATCH = 6
    """For the worker, or from it."""
    CLOSE = 7
    """From the run: nothing more will come for it."""
    ENDED = 8
    """To the run: it has ended; the body says how."""
    BUSY = 9
    """To the run: it uses much of a processor."""


class Frame(NamedTuple):
    """One of them."""

    kind: Kind
    line: int = 0
    """The number of a worker, of which no other has the same."""
    body: bytes = b""


class Wanted(msgspec.Struct, frozen=True):
    """Which cluster."""

    address: str | None
    cpus: int
    """Of a cluster on this machine."""
    folder: str
    """For what a cluster on this machine writes."""
    keys_path: str | None
    """The keys' file as each node has it, if it is to be read there."""
    grows: bool
    """Whether the run wants to know when workers are busy."""


class Size(msgspec.Struct, frozen=True):
    """What a cluster has."""

    nodes: int
    cpus: int


class Refused(msgspec.Struct, frozen=True):
    """Why there is none: a UsageError."""

    message: str
    hint: str | None


_HEAD = struct.Struct("!BI")


def encoded(frame: Frame) -> bytes:
    """A frame as a batch."""
    return _HEAD.pack(frame.kind, frame.line) + frame.body


def decoded(batch: bytes) -> Frame:
    """A batch as a frame."""
    kind, line = _HEAD.unpack_from(batch)
    return Frame(Kind(kind), line, batch[_HEAD.size :])
