"""The failure rules of a scenario at work: which request fails, and by which rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gptflow.mock.draw import draw_fraction
from gptflow.mock.request import Request
from gptflow.mock.rule import FailureRule


class FailureScript:
    """The failure rules, and how far each of them has come."""

    def __init__(self, rules: Sequence[FailureRule], seed: int) -> None:
        self._rules = rules
        self._seed = seed
        self._seen = [0] * len(rules)
        self._attempts: Counter[bytes] = Counter()
        self._counts_attempts = any(rule.attempts or 0 < rule.share < 1 for rule in rules)

    def next_for(self, request: Request, since_s: float) -> FailureRule | None:
        """The rule by which this request fails, if one does. Counts the request as an attempt.

        `since_s`: seconds since the server's first request.
        """
        if not self._rules:
            return None
        attempt = self._count(request.digest[:16])
        chance = draw_fraction(self._seed, request.digest, "failure", attempt)
        for place, rule in enumerate(self._rules):
            if not (_is_time(rule, since_s) and self._is_due(place, request, attempt)):
                continue
            if chance < rule.share:
                return rule
            chance -= rule.share  # the shares of several rules add up, instead of overlapping
        return None

    def _count(self, identity: bytes) -> int:
        """How often the same request came before. It is not counted where no rule asks."""
        if not self._counts_attempts:
            return 0
        earlier = self._attempts[identity]
        self._attempts[identity] = earlier + 1
        return earlier

    def _is_due(self, place: int, request: Request, attempt: int) -> bool:
        """Whether all conditions hold but time and share. Counts the request for the rule."""
        rule = self._rules[place]
        if rule.key is not None and rule.key != request.key:
            return False
        if rule.match is not None and rule.match.search(request.user) is None:
            return False
        seen = self._seen[place]
        self._seen[place] = seen + 1
        if seen < rule.after or (rule.first is not None and seen >= rule.after + rule.first):
            return False
        return rule.attempts is None or attempt < rule.attempts


def _is_time(rule: FailureRule, since_s: float) -> bool:
    begins_s = rule.at or 0.0
    return begins_s <= since_s and (rule.lasts is None or since_s < begins_s + rule.lasts)
