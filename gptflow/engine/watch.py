"""Watches config.json while work goes on, and tells of each change once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from gptflow.engine.config import LARGEST_FILE, Config
from gptflow.engine.folder_events import FolderEvents, places_of
from gptflow.errors import ConfigError

POLL_S = 2.0
SETTLE_S = 0.4
"""For so long a broken file must stay as it is before it is told: it may be half written."""
_LONGEST_CLOSE_S = 5.0
_A_PIPE = b"a pipe"
"""Stands for --config <(...): what was read of it once does not come again, nor change."""


class ConfigWatch:
    """An async context in which changes of a configuration are told to the event loop.

    A change is any that the file's content shows: written in place, renamed over, reached through
    other links, deleted and made again. Events of the operating system wake the watch at once;
    where none arrive (NFS, some mounts of containers) it looks every `poll_s` seconds. It reads the
    file instead of asking for its time: NFS answers that from memory for up to a minute, and times
    may be too coarse to tell two quick edits apart.

    All of this happens in a thread of its own, so that a file system that hangs holds up nobody.
    """

    def __init__(  # noqa: PLR0913  # a file, what to do about it, and how to look
        self,
        path: Path,
        *,
        load: Callable[[], Config],
        on_config: Callable[[Config], None],
        on_error: Callable[[ConfigError], None],
        poll_s: float = POLL_S,
        current: Config | None = None,
        with_events: bool = True,
    ) -> None:
        """Prepare the watch.

        Args:
            path: the file to watch. It need not exist.
            load: reads it; called in the watch's thread. May raise ConfigError.
            on_config: called in the loop with a configuration whose keys are not those of the last
                good one.
            on_error: called in the loop when the file is broken or gone, once for each content.
            poll_s: seconds between two looks where no events arrive.
            current: what the caller goes by. If the file says something else already when the
                watch begins, that is told. Without it what the file says then is where it starts.
            with_events: False: only look every `poll_s` seconds.
        """
        self._path = path.absolute()  # the working directory may change
        self._load = load
        self._on_config = on_config
        self._on_error = on_error
        self._poll_s = poll_s
        self._current = current
        self._adopts = current is None
        self._told: bytes | None = None
        """The digest of the content that was told last."""
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._events = FolderEvents(self._woken.set) if with_events else None
        self._thread = threading.Thread(target=self._run, name="gptflow config", daemon=True)

    async def __aenter__(self) -> Self:
        """Begins to watch. From here on no change is missed."""
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the watch: nothing is told any more, and no thread or handle is left.

        A thread that a dead network mount holds is left behind after 5 seconds; it ends with the
        process.
        """
        del kind, error, traceback
        self._stopped.set()
        self._woken.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _LONGEST_CLOSE_S)
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                if self._events is not None:
                    self._events.follow(places_of(self._path))
                self._look()
                self._wait(self._poll_s)
        finally:
            if self._events is not None:
                self._events.close()
            self._post(self._ended.set)

    def _wait(self, seconds: float) -> None:
        """Waits for an event or the end, but not longer."""
        if not self._stopped.is_set():  # the end sets this first, then wakes
            self._woken.wait(seconds)
            self._woken.clear()

    def _look(self) -> None:
        """Tells what the file says, if it is news; returns when it has come to rest."""
        while not self._stopped.is_set():
            digest = _digest(self._path)
            if digest in (self._told, _A_PIPE):
                return
            found = self._read()
            # The other half may be under way; a config that is good was whole when it was read.
            rest_s = 0.0 if isinstance(found, Config) else SETTLE_S
            if self._stays(digest, rest_s):
                self._told = digest
                self._tell(found)

    def _stays(self, digest: bytes, rest_s: float) -> bool:
        """Whether the file says the same for so long."""
        until = time.monotonic() + rest_s
        while not self._stopped.is_set() and _digest(self._path) == digest:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return True
            self._wait(left_s)
        return False

    def _read(self) -> Config | ConfigError:
        try:
            return self._load()
        except ConfigError as error:
            return error

    def _tell(self, found: Config | ConfigError) -> None:
        adopts, self._adopts = self._adopts, False
        if isinstance(found, ConfigError):
            self._post(lambda: self._stopped.is_set() or self._on_error(found))
            return
        before, self._current = self._current, found
        if not adopts and (before is None or _content(before) != _content(found)):
            self._post(lambda: self._stopped.is_set() or self._on_config(found))

    def _post(self, action: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop was closed with the watch still open
            self._loop.call_soon_threadsafe(action)


def _content(config: Config) -> object:
    """What of a configuration makes a difference: not its comments, nor its notes."""
    return config.keys, config.start_index


def _digest(path: Path) -> bytes:
    """What tells one state of the file from another; `_A_PIPE` for what is no file of its own."""
    try:
        # Opening a pipe would wait for a writer, and reading it would take from its reader.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return b"error %d" % (error.errno or 0)
    try:
        kind = os.fstat(handle).st_mode
        if not stat.S_ISREG(kind):
            return b"a folder" if stat.S_ISDIR(kind) else _A_PIPE
        content = os.read(handle, LARGEST_FILE + 1)
    except OSError as error:
        return b"error %d" % (error.errno or 0)
    finally:
        os.close(handle)
    return hashlib.blake2b(content, digest_size=16).digest()
