"""How each batch is to go: how long, in which order, and to which end. Only the seed decides."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import msgspec

from gptflow.mock.batch.question import Question
from gptflow.mock.batch.record import Batch
from gptflow.mock.batch.rules import BatchEnd, BatchRules
from gptflow.mock.draw import draw_fraction, draw_number

VALIDATED = 0.1
ANSWERED = 0.9
"""The parts of its latency after which a batch is validated, and has its last answer."""
_TOLD_BYTES = 100_000
"""So much of a file tells it from others."""


class Course(msgspec.Struct, frozen=True):
    """How one batch is to go."""

    began_s: float
    latency_s: float
    end: BatchEnd | None
    """If it is not to be completed."""
    order: int
    """What mixes its lines."""

    def at_s(self, part: float) -> float:
        """The time at which so much of the latency is over."""
        return self.began_s + part * self.latency_s

    def due_s(self, share: float) -> float:
        """The time at which so many of the lines are to be answered."""
        return self.at_s(VALIDATED + share * (ANSWERED - VALIDATED))

    def mixed(self, questions: list[Question]) -> list[Question]:
        """The lines in the order in which they are answered, which is not that of the file."""
        mixed = list(questions)
        random.Random(self.order).shuffle(mixed)  # noqa: S311 - repeatable, not secret
        return mixed if mixed != questions else mixed[::-1]

    def answered(self, count: int) -> int:
        """How many of so many lines are answered."""
        return round(count * self.end.answered) if self.end else count


class Courses:
    """Draws the courses, and counts what the rules have seen."""

    def __init__(self, rules: BatchRules, seed: int) -> None:
        self._rules = rules
        self._seed = seed
        self._same: Counter[bytes] = Counter()
        self._seen = [0] * len(rules.ends)

    def next_for(self, batch: Batch, now_s: float) -> Course:
        """The course of a batch that begins now. Counts it.

        The same file draws the same, but another time it draws anew.
        """
        digest = _digest(batch)
        time = self._same[digest]
        self._same[digest] += 1
        source = random.Random(draw_number(self._seed, digest, "batch", time))  # noqa: S311 - repeatable, not secret
        latency_s = self._rules.latency.draw(source)
        end = self._end_of(batch, draw_fraction(self._seed, digest, "end", time))
        if latency_s > self._rules.window:
            end = end or BatchEnd(status="expired", answered=self._rules.window / latency_s)
            latency_s = self._rules.window
        return Course(now_s, latency_s, end, source.getrandbits(32))

    def _end_of(self, batch: Batch, chance: float) -> BatchEnd | None:
        for place, rule in enumerate(self._rules.ends):
            if rule.key is not None and rule.key != batch.key:
                continue
            seen = self._seen[place]
            self._seen[place] += 1
            if seen < rule.after or (rule.first is not None and seen >= rule.after + rule.first):
                continue
            if chance < rule.share:
                return rule
            chance -= rule.share  # the shares of several rules add up, instead of overlapping
        return None


def _digest(batch: Batch) -> bytes:
    content = batch.input.content if batch.input else b""
    told = bytes(content[:_TOLD_BYTES]) + b"%d" % len(content)
    return hashlib.blake2b(told, digest_size=16).digest()
