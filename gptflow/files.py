"""What more than one room must know of files: their names, and disks without room."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk says, wherever it is said, that is no bug of a program."""


def real(path: Path) -> Path:
    """Where a path leads. Unlike `resolve` this takes a link that leads to itself."""
    return Path(os.path.realpath(path))


def sync_folder(folder: Path) -> None:
    """Make the names of new files durable.

    fsync(2) of a file is for what is in it. Its name is an entry of the folder: without this, a
    power cut may take a new name away, or bring an old file back.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
