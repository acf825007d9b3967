"""Which allowance a request counts against: its key's, or that of its key's organization."""

from __future__ import annotations

from collections.abc import Mapping

from gptflow.mock.limit import KINDS, Allowance
from gptflow.mock.request import Request
from gptflow.mock.scenario import KeyRule


def owner_of(rule: KeyRule | None, key: str) -> str:
    """What shares limits, files and batches: the key's organization, or the key."""
    return f"organization {rule.organization}" if rule and rule.organization else f"key {key}"


class Allowances:
    """What each key that has limits may still ask; keys of one organization share it."""

    def __init__(self, rules: Mapping[str, KeyRule], began_s: float) -> None:
        """`began_s`: when all were whole, and the first windows began."""
        self._began_s = began_s
        self._rules = {key: rule for key, rule in rules.items() if rule.rpm or rule.tpm}
        self._by_owner: dict[tuple[str, str], Allowance] = {}

    def of(self, request: Request) -> Allowance | None:
        """The allowance that a request counts against."""
        rule = self._rules.get(request.key)
        if rule is None:
            return None
        place = owner_of(rule, request.key), request.model if rule.per == "model" else ""
        if place not in self._by_owner:
            kind = KINDS[rule.window]
            requests, tokens = (
                kind(limit, rule.burst, self._began_s) if limit is not None else None
                for limit in (rule.rpm, rule.tpm)
            )
            self._by_owner[place] = Allowance(requests, tokens)
        return self._by_owner[place]
