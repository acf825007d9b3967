"""The line under the bar that says what each key does: `keys  main 31/s of 33   old spent`."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from gptflow.engine.duration import duration
from gptflow.runner.tally import KeyShare

MOST_NAMED = 6
"""More keys than this are counted, not named."""
SPAN_S = 5.0
"""The stretch of time that a speed is measured over."""

_WORDS = {"ready": "working", "exhausted": "spent", "retired": "out"}
_Moment = tuple[float, dict[str, int]]


class KeyLine:
    """Turns looks at the keys into a line. One key that works without limits is no news."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[_Moment] = deque()

    def text(self, keys: Sequence[KeyShare]) -> str:
        """The line; empty if there is nothing to say."""
        now = self._clock()
        self._looks.append((now, {key.state.name: key.answered for key in keys}))
        while now - self._looks[0][0] > SPAN_S and len(self._looks) > 1:
            self._looks.popleft()
        if len(keys) > MOST_NAMED:
            words = Counter(_WORDS.get(key.state.word, key.state.word) for key in keys)
            told = [f"{count:,} {word}" for word, count in words.most_common()]
            return f"keys  {'   '.join(told)}   {self._speed(keys):,.0f}/s"
        if len(keys) == 1 and keys[0].state.word == "ready" and not keys[0].state.limits:
            return ""
        return f"keys  {'   '.join(self._told(key, now) for key in keys)}" if keys else ""

    def _told(self, key: KeyShare, now: float) -> str:
        state = key.state
        if state.word == "resting" and state.until is not None:
            return f"{state.name} rests for {duration(max(state.until - now, 1))}"
        if state.word != "ready":
            return f"{state.name} {_WORDS.get(state.word, state.word)}"
        limits = dict(state.limits)
        most = f" of {limits['requests'] / 60:,.0f}" if "requests" in limits else ""
        return f"{state.name} {self._speed([key]):,.0f}/s{most}"

    def _speed(self, keys: Sequence[KeyShare]) -> float:
        """Answered calls a second."""
        (began_s, before), (ended_s, _) = self._looks[0], self._looks[-1]
        answered = sum(key.answered - before.get(key.state.name, 0) for key in keys)
        return answered / max(ended_s - began_s, 0.25)
