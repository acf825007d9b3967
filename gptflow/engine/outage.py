"""An outage: no server answers, whichever key asks. Calls are held; one at a time probes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gptflow.engine.clock import Clock
from gptflow.engine.events import Event, OutageBegan, OutageEnded
from gptflow.engine.reach import UNANSWERED, UNREACHED
from gptflow.errors import RunStopped

FIRST_PROBE_S = 1.0
LONGEST_PROBE_S = 60.0
"""The longest time between two probes."""
_OFTEN_S, _SHARE = 5.0, 0.25
"""Until then: this, or this share of the outage so far. Whoever waits longer comes back late."""

_SEVERAL = 3
"""Calls that come one after the other and fail alike: no longer two odd ones in a row."""

_LATE_S = 5.0
"""No busy machine is so late."""

TOLD_AFTER_S = 3.0
"""A shorter one is nobody's business: a server that often fails looks gone for a moment."""


class Absence(NamedTuple):
    """A call that got no answer."""

    key_name: str
    call: object
    """Tells calls apart. Kept, so that no later one can be taken for it."""
    message: str
    """Why, for a person."""
    reached: bool
    """Whether there was a connection to a server."""
    is_unavailable: bool
    """Whether the server said that it, or the one behind it, is not there at the moment."""


class Outage:
    """Watches for the time when every key fails, and holds the calls until one is answered.

    It needs evidence from every key in service, and from several calls, since the last answer. It
    cannot begin before a server has answered, or has said at least that it is not ready: one that
    never did is more likely a wrong address, which is for others to say.
    """

    def __init__(
        self,
        clock: Clock,
        emit: Callable[[Event], None],
        longest_s: float,
    ) -> None:
        """Build what watches; `longest_s`: calls that were held for so long fail."""
        self._longest_s = longest_s
        self._clock = clock
        self._emit = emit
        self.is_there = False
        """Whether the address is known to be one of a server."""
        self._keys: set[str] = set()
        self._calls: set[object] = set()
        self._unreached = 0
        self._held: deque[asyncio.Future[None]] = deque()
        self._probing: asyncio.Task[None] | None = None
        self._stopped: RunStopped | None = None
        self._is_told = False
        self._missed_s = 0.0
        """For how long of the outage the process was stopped."""
        self.since = 0.0
        """The first failure since the last answer. What was charged from then on is given back."""

    @property
    def is_on(self) -> bool:
        """Whether calls are held."""
        return self._probing is not None

    def answered(self) -> None:
        """Some server has said something sensible, if only no."""
        self.is_there = True
        if self._keys:
            self._forget()
        if self._probing is not None:
            self._end()
            if self._is_told:
                self._emit(OutageEnded(self._clock.now() - self.since))

    def failed(
        self, absence: Absence, *, active: int, in_service: Callable[[], frozenset[str]]
    ) -> None:
        """A call failed for a reason that is no answer.

        Args:
            absence: what happened.
            active: the calls that are on their way, this one included.
            in_service: the keys that could be asked instead, now.
        """
        if not self._keys:
            self.since = self._clock.now()
        self._keys.add(absence.key_name)
        self._calls.add(absence.call)
        self._unreached = 0 if absence.reached else self._unreached + 1
        self.is_there = self.is_there or absence.is_unavailable
        enough = min(UNANSWERED, max(2, active))
        is_widespread = self._unreached >= UNREACHED or len(self._calls) >= enough
        if not is_widespread or not self.is_there or self._probing or self._stopped:
            return
        if in_service() <= self._keys:
            self._is_told = False
            self._probing = asyncio.create_task(self._probe(absence.message))

    def excuses(self, absence: Absence, *, active: int) -> bool:
        """Whether a failure, which `failed` knows of, says nothing against its call.

        Nothing was sent, or an outage goes on. In that a call that is alone makes all probes, and
        may be what breaks the server: it has its attempts, and the next call probes after it.
        """
        if not absence.reached:
            return self.is_there
        is_no_odd_call = active > 1 or len(self._calls) >= _SEVERAL or absence.is_unavailable
        return self.is_on and is_no_odd_call

    async def hold(self) -> None:
        """Returns when the outage is over, or when it is this call's turn to try.

        Raises:
            RunStopped: `stop` was called.
        """
        if self._stopped:
            raise self._stopped.again()
        turn = asyncio.get_running_loop().create_future()
        self._held.append(turn)
        await turn

    def stop(self, reason: RunStopped) -> None:
        """Lets the calls that are held, or will be, fail with `reason`."""
        self._stopped = reason
        self._fail(reason)

    def close(self) -> None:
        """Ends the probing, and cancels the calls that are held."""
        if self._probing is not None:
            self._probing.cancel()
        for turn in self._held:
            turn.cancel()

    def _end(self) -> None:
        assert self._probing is not None  # answered() asks
        self._probing.cancel()
        self._probing = None
        while self._next():
            pass

    def _next(self) -> bool:
        """Lets the call go that is held longest. Returns whether there was one."""
        while self._held:
            turn = self._held.popleft()
            if not turn.done():  # else its row was cancelled
                turn.set_result(None)
                return True
        return False

    def _fail(self, reason: RunStopped) -> None:
        while self._held:
            turn = self._held.popleft()
            if not turn.done():
                turn.set_exception(reason.again())

    async def _probe(self, message: str) -> None:
        """Lets one call try, at growing intervals. Tells of the outage only if it lasts."""
        wait_s = FIRST_PROBE_S
        self._missed_s = 0.0
        while not self._is_too_long():
            until = self._clock.now() + wait_s
            await self._clock.sleep(wait_s)
            # A process that was stopped meanwhile has not waited: it tries before it gives up.
            late_s = self._clock.now() - until
            self._missed_s += late_s if late_s > _LATE_S else 0.0
            if self._is_too_long():
                break
            if not self._is_told and self._clock.now() - self.since >= TOLD_AFTER_S:
                self._is_told = True
                self._emit(OutageBegan(message))
            self._next()
            lasted_s = self._clock.now() - self.since
            wait_s = min(2 * wait_s, max(_OFTEN_S, _SHARE * lasted_s), LONGEST_PROBE_S)
        # What has failed so far is not forgotten: until a server answers, later calls fail at once.
        self._probing = None
        self._fail(_too_long(message, self._longest_s))

    def _is_too_long(self) -> bool:
        return self._clock.now() - self.since - self._missed_s >= self._longest_s

    def _forget(self) -> None:
        self._keys.clear()
        self._calls.clear()
        self._unreached = 0


def _too_long(message: str, longest_s: float) -> RunStopped:
    return RunStopped(
        f"no server has answered for {longest_s:,.0f} s: {message}",
        hint="run the same command again when the server is back: what is done is kept",
    )
