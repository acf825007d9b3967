"""The processors of this machine, as far as they are ours."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """How many this process may use, where the system tells; a container may have few."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
