"""Which calls may have a reply in the store. Most of the others are spared the look-up.

SQLite lets go of the interpreter's lock at every step, and who looks something up stands in line
to get it back: in a run over new rows that took a fifth of a row's CPU, to find nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

BITS = 25
"""4 MB. With a million replies 3 % of the new questions are looked up in vain, with ten 26 %."""
LEARNT_AT_ONCE = 1000
"""Call keys that one question may stop to read: about a millisecond."""


class KnownCalls:
    """A filter of call keys: it may take a new one for known, but never a known one for new."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << BITS - 3)
        self._adding = threading.Lock()
        self._since_run = sys.maxsize
        """The first run whose replies, with those of all later ones, are in here for certain."""
        self._learnt_up_to = b""
        """The call key up to which the replies of earlier runs are in here too."""

    def begin_run(self, run_id: int) -> None:
        """A new run: nobody has saved a reply for it, and each that is saved will be added."""
        self._since_run = min(self._since_run, run_id)

    def add(self, call_key: bytes) -> None:
        """There is a reply from now on. Any thread may call it."""
        place, bit = _place(call_key)
        with self._adding:  # two threads that change one byte would lose a key, which is paid twice
            self._bits[place] |= bit

    def lacks(self, call_key: bytes, since_run: int) -> bool:
        """Whether there is surely no reply of that run or a later one."""
        place, bit = _place(call_key)
        return since_run >= self._since_run and not self._bits[place] & bit

    def learn(self, since_run: int, keys_behind: Callable[[bytes, int], list[bytes]]) -> None:
        """Add some of the keys that earlier processes have stored, if replies so old are asked for.

        A few whenever a question finds nothing: to read millions of them at once would hold up
        all who wait, and a run that asks ten rows does not need them.

        Args:
            since_run: as in `lacks`.
            keys_behind: gives the next keys in their order; at most so many, from behind that one.
        """
        if since_run >= self._since_run:
            return
        keys = keys_behind(self._learnt_up_to, LEARNT_AT_ONCE)
        for key in keys:
            self.add(key)
        if len(keys) < LEARNT_AT_ONCE:
            self._since_run = 0
        else:
            self._learnt_up_to = keys[-1]


def _place(call_key: bytes) -> tuple[int, int]:
    """The key's byte, and its bit in there. A key is a hash: its head is as good as another."""
    number = int.from_bytes(call_key[:4], "big") >> 32 - BITS
    return number >> 3, 1 << (number & 7)
