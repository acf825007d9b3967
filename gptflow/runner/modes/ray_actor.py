"""A worker on a Ray cluster: the actor that it lives in."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from gptflow import __version__
from gptflow.engine.config import KeyEntry, load_config
from gptflow.errors import ConfigError
from gptflow.runner.crew.frames import Frames
from gptflow.runner.crew.inside import work
from gptflow.runner.crew.mailbox import Mailbox
from gptflow.runner.modes.ray_stream import Stream

BUSY_S = 2.0
BUSY_SHARE = 0.5
"""Of one processor. More than one is of little use to a worker."""


class Actor:
    """What Ray makes of a worker. Its methods are called by `ray_driver` alone.

    It is given nothing when it is made: with what an actor is made is kept by Ray's head node. With
    the driver it ends, in whatever way that has ended.
    """

    def __init__(self) -> None:
        self._mailbox = Mailbox()
        self._incoming = Frames(self._mailbox.put, lambda: None)
        self._outgoing = Stream(time.monotonic)
        self._mailbox.send = self._outgoing.put
        self._life: asyncio.Task[None] | None = None

    async def begin(self, keys_path: str | None) -> None:
        """Starts the worker. `keys_path`: where its keys are, if the run does not tell them."""
        own_key = KeysHere(Path(keys_path)) if keys_path else None
        self._life = asyncio.ensure_future(work(self._mailbox, own_key))
        self._life.add_done_callback(lambda _: self._outgoing.end())

    async def push(self, piece: bytes) -> None:
        """Takes the next piece of what the worker is sent."""
        self._incoming.data_received(piece)

    async def pull(self, spacing_s: float) -> bytes | None:
        """The next piece of what the worker sends, once there is one; None when it has ended.

        Raises:
            Exception: what the worker has failed with.
        """
        piece = await self._outgoing.piece(spacing_s)
        if piece is None and self._life is not None:
            await self._life
        return piece

    async def busy(self) -> None:
        """Comes back when the worker has used much of a processor for a while."""
        share = 0.0
        while share < BUSY_SHARE:
            used_s, began_s = time.process_time(), time.monotonic()
            await asyncio.sleep(BUSY_S)
            share = (time.process_time() - used_s) / (time.monotonic() - began_s)

    async def close(self) -> None:
        """Nothing more will come for the worker."""
        self._mailbox.end()


class KeysHere:
    """The keys in a file of this node, by their names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, KeyEntry] = {}

    def __call__(self, name: str) -> KeyEntry:
        """The key of that name.

        Raises:
            ConfigError: it is not in the file, or the file is wrong.
        """
        if name not in self._keys:  # the first of all, or one that was added meanwhile
            self._keys = {key.name: key for key in load_config(self._path, os.environ).keys}
        if name not in self._keys:
            raise ConfigError(
                f"{self._path} on {os.uname().nodename} has no key named {name!r}",
                hint="it must hold the same keys, with the same names, on every machine",
            )
        return self._keys[name]


def version_here() -> str:
    """Runs on a node, to tell which gptflow it has."""
    return __version__
