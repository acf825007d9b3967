"""Who holds a lock of flock(2), where the kernel tells."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LOCKS = Path("/proc/locks")
"""See proc(5). Elsewhere than under Linux there is none."""


def flock_holder(file: Path) -> str:
    """`process 123`, or `another process`: who has locked the file."""
    with suppress(OSError):
        status = file.stat()
        major, minor = os.major(status.st_dev), os.minor(status.st_dev)
        place = f"{major:02x}:{minor:02x}:{status.st_ino}"
        for line in LOCKS.read_text(encoding="ascii").splitlines():
            words = line.split()
            # 1: FLOCK ADVISORY WRITE 123 fd:00:456 0 EOF; waiting ones have an arrow before FLOCK
            if words[1] == "FLOCK" and words[5] == place and int(words[4]) > 0:
                return f"process {words[4]}"
    return "another process"
