"""How a process is killed: at a moment, by what it has asked, or at a point of the program."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).parent.parent / "tests" / "faults" / "killed_at.py"
POINTS = (
    "after gptflow.store.ledger:insert_rows",
    "before gptflow.store.ledger:number_duplicates",
    "before gptflow.store.run:set_running",
    "after gptflow.store.run:tidy_runs",
    "before gptflow.runner.begin:_go_on",
    "before gptflow.engine.client:Client.send #{}",
    "after gptflow.engine.client:Client.send #{}",
    "before gptflow.store.store:Store.save_reply #{}",
    "before gptflow.store.store:Store.save_result #{}",
    "after sqlite3:Connection.executemany #{}",
    "during sqlite3:Connection.execute ~COMMIT #{}",
    "before gptflow.store.writer:_settle #{}",
    "before gptflow.runner.publish:Publication.commit",
    "before pathlib:Path.replace",
    "after pathlib:Path.replace",
    "before pathlib:Path.replace #2",
    "before gptflow.store.run:change_run",
    "after gptflow.store.run:change_run",
)
"""Where the program is killed; a number is drawn for {}."""
GENTLE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Kill:
    """How a process is to end."""

    number: int
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,)
    after_s: float | None = None
    """Seconds from the start."""
    at_request: int | None = None
    """As this request of the process arrives, counted from 1."""
    at_answer: int | None = None
    """As so many of its requests have been answered."""
    then_s: float = 0.0
    """Seconds from the request or the answer to the signal, and from one signal to the next."""
    point: str = ""
    """A point of tests/faults/killed_at.py."""

    @property
    def is_gentle(self) -> bool:
        """Whether the process is let to end well."""
        return self.signals[0] is not signal.SIGKILL and len(self.signals) == 1

    def exit_codes(self, *, has_asked: bool) -> set[int]:
        """What the process may end with."""
        codes = {128 + number for number in self.signals}
        codes |= {-number for number in self.signals[1:]}  # it comes when the command is over
        if self.signals[0] is signal.SIGKILL or not has_asked:
            return {-number for number in self.signals} | codes
        return codes

    def __str__(self) -> str:
        names = " ".join(number.name for number in self.signals)
        if self.point:
            where = self.point
        elif self.after_s is not None:
            where = f"{self.after_s:.3f} s after its start"
        elif self.at_request is not None:
            where = f"{self.then_s * 1000:.1f} ms after request {self.at_request}"
        else:
            where = f"{self.then_s * 1000:.1f} ms after answer {self.at_answer}"
        return f"kill {self.number}, {names} {where}"


def draw_kill(number: int, luck: random.Random) -> Kill:
    """One kill of the mixture."""
    return luck.choice(_MIXTURE)(number, luck)


def _at_a_moment(number: int, luck: random.Random) -> Kill:
    return Kill(number, after_s=luck.uniform(0.1, 1.4))


def _at_a_request(number: int, luck: random.Random) -> Kill:
    return Kill(number, at_request=_calls(luck))


def _after_an_answer(number: int, luck: random.Random) -> Kill:
    return Kill(number, at_answer=_calls(luck), then_s=luck.uniform(0, 0.006))


def _at_a_point(number: int, luck: random.Random) -> Kill:
    return Kill(number, point=luck.choice(POINTS).format(_calls(luck)))


def _gently(number: int, luck: random.Random) -> Kill:
    if luck.random() < 0.3:
        return Kill(number, (luck.choice(GENTLE),), after_s=luck.uniform(0.4, 1.4))
    return Kill(number, (luck.choice(GENTLE),), at_request=_calls(luck))


def _twice(number: int, luck: random.Random) -> Kill:
    signals = (signal.SIGINT, luck.choice((signal.SIGINT, signal.SIGTERM)))
    return Kill(number, signals, at_request=_calls(luck), then_s=luck.uniform(0.1, 0.2))


def _calls(luck: random.Random) -> int:
    return luck.randint(1, 150)


_MIXTURE = (
    *[_at_a_moment] * 5,
    *[_at_a_request] * 3,
    *[_after_an_answer] * 4,
    *[_at_a_point] * 4,
    *[_gently] * 3,
    _twice,
)


class Strike:
    """A kill under way: hears what the process asks and is answered, and signals it in time."""

    def __init__(self, kill: Kill, process: subprocess.Popen[bytes]) -> None:
        self._kill = kill
        self._process = process
        self._arrived = 0
        self._answered = 0
        if kill.after_s is not None:
            self._start(kill.after_s)

    def arrive(self) -> None:
        """A request has come."""
        self._arrived += 1
        if self._arrived == self._kill.at_request:
            self._start(self._kill.then_s if len(self._kill.signals) == 1 else 0.0)

    def answer(self) -> None:
        """A request is through."""
        self._answered += 1
        if self._answered == self._kill.at_answer:
            self._start(self._kill.then_s)

    def _start(self, wait_s: float) -> None:
        if wait_s == 0.0:
            self._process.send_signal(self._kill.signals[0])
        threading.Thread(target=self._send, args=(wait_s,), daemon=True).start()

    def _send(self, wait_s: float) -> None:
        for place, number in enumerate(self._kill.signals):
            if place or wait_s:
                time.sleep(self._kill.then_s if place else wait_s)
                self._process.send_signal(number)
