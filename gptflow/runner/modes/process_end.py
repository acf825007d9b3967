"""The end of a process that this one has started: seen at once, by whatever it comes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import threading
from contextlib import suppress

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ProcessEnd:
    """Watches a process, from here to `close`. Its loop waits for it, and no thread of a pool."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Begins to watch.

        Raises:
            OSError: there is no descriptor left for it.
            RuntimeError: where it takes a thread, none can be started.
        """
        self._process = process
        self._loop = asyncio.get_running_loop()
        self.seen: asyncio.Future[int] = self._loop.create_future()
        """Resolves with the exit code, as in Popen.returncode."""
        self._descriptor = _descriptor(process.pid)
        if self._descriptor is None:
            threading.Thread(target=self._wait, name="gptflow-end", daemon=True).start()
        else:
            self._loop.add_reader(self._descriptor, self._see)

    def close(self) -> None:
        """Looks no more."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _see(self) -> None:
        self.close()
        self._tell(self._process.wait())  # has ended: it is there at once

    def _wait(self) -> None:
        code = self._process.wait()
        with suppress(RuntimeError):  # the run has ended
            self._loop.call_soon_threadsafe(self._tell, code)

    def _tell(self, code: int) -> None:
        if not self.seen.done():
            self.seen.set_result(code)


def _descriptor(pid: int) -> int | None:
    """What becomes readable when the process ends; None where the system has no such thing."""
    if not hasattr(os, "pidfd_open"):  # macOS
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        return None  # an old kernel, or a sandbox that forbids it
