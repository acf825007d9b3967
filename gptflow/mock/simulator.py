"""Decides what the simulated server answers. It has no clock, network or disk."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec

from gptflow.mock.draw import draw_fraction
from gptflow.mock.failure.catalogue import CATALOGUE
from gptflow.mock.failure.model import JSON, Cut, Facts, Header, ServerFailure, error_object
from gptflow.mock.limit import Allowance, Bucket, Refusal
from gptflow.mock.reply import Replier, ReplyText, completion_of
from gptflow.mock.request import BadRequestError, Endpoint, Request, read_request
from gptflow.mock.scenario import FailureRule, Scenario

_DEFAULT_LIMIT = 500
"""What a scripted rate limit claims the limit to be, for a key that has none."""


class Incoming(msgspec.Struct, frozen=True):
    """A request as HTTP brings it."""

    method: str
    path: str
    key: str
    """The bearer token; empty if there is none."""
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """What goes back, how it goes, and when."""

    status: int
    headers: list[Header]
    body: bytes
    latency_s: float = 0.0
    cut: Cut | None = None
    failure: str | None = None
    """The name in the catalogue, if it is a failure of that."""
    request: Request | None = None
    """What was asked, if it could be understood."""
    completion_tokens: int = 0
    """What the answer bills beside the prompt; 0 for a failure."""


class Simulator:
    """A scenario at work: what is left of the limits, and what was asked before."""

    def __init__(self, scenario: Scenario, now_s: float, reply: ReplyText | None = None) -> None:
        self._scenario = scenario
        self._reply = reply
        self._replier = Replier(scenario.reply, scenario.seed)
        self._latencies = random.Random(scenario.seed)  # noqa: S311 - repeatable, not secret
        self._allowances = _allowances(scenario, now_s)
        self._failures = _FailureScript(scenario.failures, scenario.seed)

    def answer(self, incoming: Incoming, now_s: float, unix_s: float, in_flight: int) -> Answer:
        """The answer to a request. `now_s` never runs backwards; `in_flight` counts the others."""
        try:
            endpoint = _endpoint(incoming)
            if incoming.key == "":
                return _refused(401, _NO_KEY, None, None)
            if endpoint is None:
                return self._models()
            request = read_request(endpoint, incoming.key, incoming.body)
            return self._serve(request, now_s, unix_s, in_flight)
        except BadRequestError as bad:
            status = {"unknown_url": 404, "method_not_supported": 405}.get(bad.code or "", 400)
            return _refused(status, bad.message, bad.param, bad.code)

    def _serve(self, request: Request, now_s: float, unix_s: float, in_flight: int) -> Answer:
        name = self._barred(request, in_flight)
        if name is not None:
            return self._fail(CATALOGUE[name], request, unix_s)
        allowance = self._allowances.get(request.key)
        refusal = allowance.take(request.tokens, now_s) if allowance else None
        if refusal is not None:
            return self._fail(CATALOGUE[refusal.failure], request, unix_s, refusal=refusal)
        rule = self._failures.next_for(request)
        if rule is not None:
            return self._fail(CATALOGUE[rule.name], request, unix_s, wait_s=rule.retry_after)
        told = self._completion(request)
        return Answer(
            status=200,
            headers=[(b"content-type", JSON), *(allowance.headers() if allowance else [])],
            body=msgspec.json.encode(told),
            latency_s=self._scenario.latency.draw(self._latencies),
            request=request,
            completion_tokens=told["usage"]["completion_tokens"],
        )

    def _barred(self, request: Request, in_flight: int) -> str | None:
        """The failure of a request that no allowance would help."""
        scenario = self._scenario
        rule = scenario.keys.get(request.key)
        if rule is None and scenario.unknown_keys == "refuse":
            return "invalid_api_key"
        if rule and rule.failure:
            return rule.failure
        if scenario.models is not None and request.model not in scenario.models:
            return "model_not_found"
        if rule and rule.models is not None and request.model not in rule.models:
            return "model_no_access"
        if scenario.concurrency and in_flight >= scenario.concurrency.in_flight:
            return scenario.concurrency.failure
        return None

    def _completion(self, request: Request) -> dict[str, Any]:
        if self._reply is not None:
            return completion_of(request, [self._reply(request.body)] * request.choices)
        choices = range(request.choices)
        return completion_of(request, [self._replier.text(request, place) for place in choices])

    def _fail(
        self,
        failure: ServerFailure,
        request: Request,
        unix_s: float,
        *,
        wait_s: float | None = None,
        refusal: Refusal | None = None,
    ) -> Answer:
        facts = self._facts(failure, request, unix_s, wait_s, refusal)
        content_type = [(b"content-type", failure.content_type)] if failure.content_type else []
        hints = failure.hint(facts) if failure.hint else []
        is_refusal = 400 <= failure.status < 500
        completion = self._completion(request) if failure.status < 300 else {}
        return Answer(
            status=failure.status,
            headers=[*content_type, *failure.headers, *hints],
            body=failure.body(facts, completion),
            latency_s=0.0 if is_refusal else self._scenario.latency.draw(self._latencies),
            cut=failure.cut,
            failure=failure.name,
            request=request,
        )

    def _facts(
        self,
        failure: ServerFailure,
        request: Request,
        unix_s: float,
        wait_s: float | None,
        refusal: Refusal | None,
    ) -> Facts:
        if refusal is None:
            wait_s = failure.wait_s if wait_s is None else wait_s
            refusal = Refusal(failure.name, _DEFAULT_LIMIT, _DEFAULT_LIMIT, 1, wait_s)
        rule = self._scenario.keys.get(request.key)
        return Facts(
            model=request.model,
            organization=(rule and rule.organization) or "org-simulated",
            key=_masked(request.key),
            wait_s=refusal.wait_s,
            now=unix_s,
            limit=refusal.limit,
            used=refusal.used,
            requested=refusal.requested,
        )

    def _models(self) -> Answer:
        names = self._scenario.models or ["simulated"]
        listed = [{"id": n, "object": "model", "created": 0, "owned_by": "gptflow"} for n in names]
        body = msgspec.json.encode({"object": "list", "data": listed})
        return Answer(200, [(b"content-type", JSON)], body)


class _FailureScript:
    """The failure rules, and how far each of them has come."""

    def __init__(self, rules: list[FailureRule], seed: int) -> None:
        self._rules = rules
        self._seed = seed
        self._seen = [0] * len(rules)
        self._attempts: Counter[bytes] = Counter()
        self._counts_attempts = any(rule.attempts or 0 < rule.share < 1 for rule in rules)

    def next_for(self, request: Request) -> FailureRule | None:
        """The rule by which this request fails, if one does. Counts the request as an attempt."""
        if not self._rules:
            return None
        attempt = self._count(request.digest[:16])
        chance = draw_fraction(self._seed, request.digest, "failure", attempt)
        for place, rule in enumerate(self._rules):
            if not self._is_due(place, request, attempt):
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
        """Whether all conditions of a rule but its share hold. Counts the request for it."""
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


_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
)
_ENDPOINTS: dict[str, tuple[str, Endpoint | None]] = {
    "/chat/completions": ("POST", "chat/completions"),
    "/completions": ("POST", "completions"),
    "/models": ("GET", None),
}


def _endpoint(incoming: Incoming) -> Endpoint | None:
    """What the path asks for; None is the list of models."""
    method, endpoint = _ENDPOINTS.get(incoming.path.removeprefix("/v1"), ("", None))
    if not method:
        asked = f"{incoming.method} {incoming.path}"
        raise BadRequestError(f"Invalid URL ({asked})", code="unknown_url")
    if method != incoming.method:
        message = f"Not allowed to {incoming.method} on {incoming.path}. (HINT: Perhaps you meant "
        raise BadRequestError(
            message + "to use a different HTTP method?)", code="method_not_supported"
        )
    return endpoint


def _refused(status: int, message: str, param: str | None, code: str | None) -> Answer:
    body = error_object(message, "invalid_request_error", code, param)
    return Answer(status, [(b"content-type", JSON)], body)


def _masked(key: str) -> str:
    """A key as OpenAI prints it: enough to know it by, too little to use it."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 16 else "*" * 8


def _allowances(scenario: Scenario, now_s: float) -> dict[str, Allowance]:
    """The allowance of each key that has one; keys of one organization share theirs."""
    by_owner: dict[str, Allowance] = {}
    by_key: dict[str, Allowance] = {}
    for key, rule in scenario.keys.items():
        if rule.rpm is None and rule.tpm is None:
            continue
        requests, tokens = (
            Bucket(limit, rule.burst, now_s) if limit is not None else None
            for limit in (rule.rpm, rule.tpm)
        )
        owner = f"organization {rule.organization}" if rule.organization else f"key {key}"
        by_key[key] = by_owner.setdefault(owner, Allowance(requests, tokens))
    return by_key
