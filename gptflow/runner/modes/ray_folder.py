"""The folder that Ray writes to for one run: locked for as long as somebody may use it."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

PREFIX = "gptflow-ray-"
LOG = "ray.log"
YOUNG_S = 60.0
"""A folder that is younger may not have been locked yet."""


class RayFolder:
    """A folder with a log in it. Who has the log open, or inherits it, keeps the folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        self.log = self.path / LOG

    def open_log(self) -> IO[bytes]:
        """The log, to be written from its beginning."""
        log = self.log.open("wb")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return log

    def remove(self) -> None:
        """Removes it."""
        self._folder.cleanup()


def sweep_folders(parent: Path) -> None:
    """Removes the folders of runs that were killed together with their process."""
    for log in parent.glob(f"{PREFIX}*/{LOG}"):
        with suppress(OSError):  # another's, or removed meanwhile
            if time.time() - log.stat().st_mtime > YOUNG_S:
                _remove_if_left(log)


def _remove_if_left(log: Path) -> None:
    with log.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where somebody has it
        shutil.rmtree(log.parent, ignore_errors=True)
