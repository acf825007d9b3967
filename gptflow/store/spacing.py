"""How far apart groups are committed: near while the processor has time to spare, else apart."""

from __future__ import annotations

import time
from collections.abc import Callable

BUSY_S = 0.005
"""The least time between the starts of two groups while the processor is busy: a group grows to
this much work, which halves the CPU that a row costs (benchmarks/store.py)."""
IDLE_S = 0.002
"""The same while it has time to spare. Then a lane that waits for the disk costs more than the
commits: with 200 calls in flight at 100 ms, 5 ms are a twentieth of the throughput."""
BUSY_SHARE = 0.7
"""Of one core: a process that takes more is busy."""
LOOK_EVERY_S = 0.1

Clock = Callable[[], float]


class Spacing:
    """The time between two groups, as the load of this process decides."""

    def __init__(
        self,
        busy_s: float = BUSY_S,
        idle_s: float = IDLE_S,
        busy_share: float = BUSY_SHARE,
        *,
        clock: Clock = time.monotonic,
        cpu_clock: Clock = time.process_time,
    ) -> None:
        """`cpu_clock` gives the seconds of CPU that all threads of the process have used."""
        self._busy_s = busy_s
        self._idle_s = idle_s
        self._busy_share = busy_share
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._looked_at = clock()
        self._used_s = cpu_clock()
        self._spacing_s = idle_s

    def next_s(self) -> float:
        """The time from now to the earliest start of the next group."""
        passed_s = self._clock() - self._looked_at
        if passed_s >= LOOK_EVERY_S:
            used_s = self._cpu_clock() - self._used_s
            is_busy = used_s > self._busy_share * passed_s
            self._spacing_s = self._busy_s if is_busy else self._idle_s
            self._looked_at += passed_s
            self._used_s += used_s
        return self._spacing_s
