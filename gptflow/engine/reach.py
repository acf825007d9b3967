"""Whether the server of a key can be reached: a key whose server is gone rests for ever longer."""

from __future__ import annotations

from gptflow.engine.backoff import doubled

UNREACHED = 3
"""So many calls in a row without a connection: no call can be at fault."""
UNANSWERED = 10
"""So many calls in a row that a server failed. Fewer may be odd calls."""
FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
"""The longest time until one call tries again."""


class Reach:
    """What came of the calls of a key since its last answer, whatever their model."""

    __slots__ = ("_failures", "_has_answered", "_rested_at", "_rests", "_unreached", "until")

    def __init__(self) -> None:
        self.until = 0.0
        """When the key's rest ends."""
        self._rested_at = 0.0
        self._rests = 0
        self._failures = 0
        self._unreached = 0
        self._has_answered = False

    @property
    def is_sure(self) -> bool:
        """Whether it has answered, and nothing has failed since."""
        return self._has_answered and not self._failures

    def answered(self) -> None:
        """The server has said something sensible, if only no."""
        self._has_answered = True
        self._failures = self._unreached = self._rests = 0
        self.until = 0.0

    def failed(self, now: float, sent_at: float, *, reached: bool, may_rest: bool) -> None:
        """Notes a call without an answer; enough of them begin a rest.

        Args:
            now: seconds.
            sent_at: when the call left. What left before the last rest tells nothing new.
            reached: whether there was a connection.
            may_rest: whether the key can be done without.
        """
        if self._rests and sent_at < self._rested_at:
            return
        self._failures += 1
        self._unreached = 0 if reached else self._unreached + 1
        if not may_rest or (self._unreached < UNREACHED and self._failures < UNANSWERED):
            return
        self._rested_at = now
        self.until = now + doubled(FIRST_REST_S, self._rests, LONGEST_REST_S)
        self._rests += 1
