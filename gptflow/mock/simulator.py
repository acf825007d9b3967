"""Decides what the simulated server answers. It has no clock, network or disk."""

from __future__ import annotations

import hashlib
import random
from typing import Any, Protocol

import msgspec

from gptflow.mock.allowances import Allowances, owner_of
from gptflow.mock.answer import Answer, Incoming, Moment, refused
from gptflow.mock.batch.rules import BatchRules
from gptflow.mock.dialect import refusal_name, wait_headers
from gptflow.mock.failure.catalogue import CATALOGUE
from gptflow.mock.failure.limits import ACCESS
from gptflow.mock.failure.model import JSON, Facts, Header, ServerFailure
from gptflow.mock.failure.status import NETWORK, SERVER
from gptflow.mock.failure.transport import TRANSPORT
from gptflow.mock.limit import Refusal
from gptflow.mock.reply import Replier, ReplyText, completion_of
from gptflow.mock.request import BadRequestError, Endpoint, Request, questions, read_request
from gptflow.mock.rule import FailureRule
from gptflow.mock.scenario import KeyRule, Scenario
from gptflow.mock.script import FailureScript

_DEFAULT_LIMIT = 500
"""What a scripted rate limit claims the limit to be, for a key that has none."""
_OF_TOKENS = frozenset(
    {"rate_limit_tpm", "rate_limit_tpd", "request_too_large", "groq_too_large_413"}
)
_SUCCESSES = range(200, 300)
_NO_RULE = KeyRule()
_OF_ALL_REQUESTS = frozenset(
    failure.name
    for failure in (*ACCESS, *SERVER, *NETWORK, *TRANSPORT)
    if not failure.name.startswith("model_")
) | {"wrong_path"}
"""The failures of a key that GET /models meets, too: neither money nor a limit stops that."""


class Line(Protocol):
    """The batch to which a line belongs."""

    @property
    def key(self) -> str:
        """The key that created it."""

    @property
    def endpoint(self) -> Endpoint:
        """What all its lines ask."""


class Simulator:
    """A scenario at work: what is left of the limits, and what was asked before."""

    def __init__(self, scenario: Scenario, now_s: float, reply: ReplyText | None = None) -> None:
        self._scenario = scenario
        self._reply = reply
        self._replier = Replier(scenario.reply, scenario.seed)
        self._latencies = random.Random(scenario.seed)  # noqa: S311 - repeatable, not secret
        self._allowances = Allowances(scenario.keys, now_s)
        self._failures = FailureScript(scenario.failures, scenario.seed)
        self._line_failures = FailureScript(scenario.batch.lines, scenario.seed)
        self._first_s: float | None = None
        """When the first request came."""

    @property
    def seed(self) -> int:
        """What decides all that is drawn."""
        return self._scenario.seed

    @property
    def batch_rules(self) -> BatchRules:
        """How batches are served."""
        return self._scenario.batch

    def moment(self, now_s: float, unix_s: float, in_flight: int) -> Moment:
        """Now; the first one begins the time of the scenario."""
        if self._first_s is None:
            self._first_s = now_s
        return Moment(now_s, unix_s, now_s - self._first_s, in_flight)

    def owner(self, key: str) -> str:
        """What shares files, batches and limits: the key's organization, or the key."""
        return owner_of(self._scenario.keys.get(key), key)

    def answer(self, incoming: Incoming, now_s: float, unix_s: float, in_flight: int) -> Answer:
        """The answer to a request. `now_s` never runs backwards; `in_flight` counts the others."""
        moment = self.moment(now_s, unix_s, in_flight)
        try:
            endpoint = _endpoint(incoming)
            if incoming.key == "" or endpoint is None:
                return self.refusal(incoming.key, moment) or self._models(incoming.key)
            return self._serve(read_request(endpoint, incoming.key, incoming.body), moment)
        except BadRequestError as bad:
            status = {"unknown_url": 404, "method_not_supported": 405}.get(bad.code or "", 400)
            return refused(status, bad.message, bad.param, bad.code)

    def _serve(self, request: Request, moment: Moment) -> Answer:
        name = self._barred(request, moment.in_flight)
        if name is not None:
            return self._fail(name, request, moment)
        rule = self._scenario.keys.get(request.key) or _NO_RULE
        allowance = self._allowances.of(request)
        refusal = allowance.take(request.tokens, moment.now_s) if allowance else None
        told = allowance.headers(rule.headers, moment.unix_s) if allowance else []
        if refusal is not None:
            return self._limit(request, rule, refusal, told, moment)
        return self._reply_to(request, moment, told)

    def line(self, batch: Line, body: bytes, moment: Moment) -> Answer:
        """The answer to one line of a batch: as to a request, but for the limits of the key."""
        try:
            request = read_request(batch.endpoint, batch.key, body)
            rule = self._scenario.keys.get(batch.key) or _NO_RULE
            if rule.failure is not None:
                return self._fail(rule.failure, request, moment)
            failing = self._line_failures.next_for(request, moment.since_s)
            if failing is not None:
                return self._spoil(failing, request, moment, [])
            return self._reply_to(request, moment, [])
        except BadRequestError as bad:
            return refused(400, bad.message, bad.param, bad.code)

    def serves(self, key: str, model: str) -> bool:
        """Whether there is a model, and the key may use it."""
        rule = self._scenario.keys.get(key) or _NO_RULE
        return all(
            names is None or model in names for names in (self._scenario.models, rule.models)
        )

    def may_batch(self, key: str) -> bool:
        """Whether the key may use files and batches."""
        return (self._scenario.keys.get(key) or _NO_RULE).batch

    def organization(self, key: str) -> str:
        """The organization of a key, as messages name it."""
        rule = self._scenario.keys.get(key)
        return (rule and rule.organization) or "org-simulated"

    def _reply_to(self, request: Request, moment: Moment, told: list[Header]) -> Answer:
        failing = self._failures.next_for(request, moment.since_s)
        if failing is not None:
            return self._spoil(failing, request, moment, told)
        completion = self._completion(request)
        return Answer(
            status=200,
            headers=[(b"content-type", JSON), *told],
            body=msgspec.json.encode(completion),
            latency_s=self._latency_s(moment.in_flight),
            request=request,
            completion_tokens=completion["usage"]["completion_tokens"],
        )

    def _latency_s(self, in_flight: int) -> float:
        alone_s = self._scenario.latency.draw(self._latencies)
        slowdown = self._scenario.slowdown
        return alone_s * slowdown.factor(in_flight + 1) if slowdown else alone_s

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
        texts: list[str] = []
        for question in questions(request):
            if not question.body:  # it stands for no question
                texts += [""]
            elif self._reply is not None:
                texts += [self._reply(question.body)] * request.choices
            else:
                choices = range(request.choices)
                texts += [self._replier.text(question, choice) for choice in choices]
        return completion_of(request, texts)

    def _limit(
        self,
        request: Request,
        rule: KeyRule,
        refusal: Refusal,
        told: list[Header],
        moment: Moment,
    ) -> Answer:
        """The refusal of a request for which the allowance does not suffice."""
        wait = rule.wait or ("none" if rule.headers == "none" else "both")
        if refusal.wait_s is None:
            name, hints = "request_too_large", told
        else:
            name = refusal_name(rule.headers, refusal.unit, wait)
            hints = [*told, *wait_headers(wait, refusal.wait_s)]
        failure = CATALOGUE[name]
        facts = self._facts(request, moment, refusal)
        return _failed(failure, request, failure.body(facts, {}), hints)

    def _fail(
        self, name: str, request: Request, moment: Moment, *, wait_s: float | None = None
    ) -> Answer:
        """A failure of the catalogue, as it stands there."""
        failure = CATALOGUE[name]
        wait_s = failure.wait_s if wait_s is None else wait_s
        limit = self._claimed_limit(name, request.key)
        claimed = Refusal("requests", limit, limit, 1, wait_s)
        facts = self._facts(request, moment, claimed)
        completion = self._completion(request) if failure.status in _SUCCESSES else {}
        hints = failure.hint(facts) if failure.hint else []
        answer = _failed(failure, request, failure.body(facts, completion), hints)
        if 400 <= failure.status < 500:
            return answer
        return msgspec.structs.replace(answer, latency_s=self._latency_s(moment.in_flight))

    def stand_in(self, incoming: Incoming) -> Request:
        """A request that rules can match which has no question: by its method and path."""
        return _request_without_question(incoming.key, f"{incoming.method} {incoming.path}")

    def failure(self, rule: FailureRule, request: Request, moment: Moment) -> Answer:
        """The failure by a rule of a request that has no question."""
        answer = self._fail(rule.name, request, moment, wait_s=rule.retry_after)
        return msgspec.structs.replace(answer, request=None)

    def _spoil(
        self, rule: FailureRule, request: Request, moment: Moment, told: list[Header]
    ) -> Answer:
        """The failure by a rule. Where it is a wrong answer, the limits are told as with any."""
        answer = self._fail(rule.name, request, moment, wait_s=rule.retry_after)
        if answer.status not in _SUCCESSES:
            return answer
        return msgspec.structs.replace(answer, headers=[*answer.headers, *told])

    def _claimed_limit(self, name: str, key: str) -> int:
        """The limit that a failure speaks of: the key's own, where it has one."""
        rule = self._scenario.keys.get(key) or _NO_RULE
        own = rule.tpm if name in _OF_TOKENS else rule.rpm
        return own or _DEFAULT_LIMIT

    def _facts(self, request: Request, moment: Moment, refusal: Refusal) -> Facts:
        return Facts(
            model=request.model,
            organization=self.organization(request.key),
            key=_masked(request.key),
            whole_key=request.key,
            wait_s=refusal.wait_s or 0.0,
            now=moment.unix_s,
            limit=refusal.limit,
            used=refusal.used,
            requested=refusal.requested,
        )

    def refusal(self, key: str, moment: Moment) -> Answer | None:
        """How the key fails, if it does so in all it asks."""
        if not key:
            return refused(401, _NO_KEY)
        failure = self.key_failure(key, moment)
        return failure if failure and failure.failure in _OF_ALL_REQUESTS else None

    def key_failure(self, key: str, moment: Moment) -> Answer | None:
        """How the key fails whenever it asks a model."""
        rule = self._scenario.keys.get(key)
        name = rule.failure if rule else None
        if rule is None and self._scenario.unknown_keys == "refuse":
            name = "invalid_api_key"
        if name is None:
            return None
        answer = self._fail(name, _request_without_question(key), moment)
        return msgspec.structs.replace(answer, request=None)

    def _models(self, key: str) -> Answer:
        """The models there are for a key."""
        rule = self._scenario.keys.get(key)
        names = (rule and rule.models) or self._scenario.models or ["simulated"]
        listed = [{"id": n, "object": "model", "created": 0, "owned_by": "gptflow"} for n in names]
        body = msgspec.json.encode({"object": "list", "data": listed})
        return Answer(200, [(b"content-type", JSON)], body)


def _failed(failure: ServerFailure, request: Request, body: bytes, hints: list[Header]) -> Answer:
    content_type = [(b"content-type", failure.content_type)] if failure.content_type else []
    return Answer(
        status=failure.status,
        headers=[*content_type, *failure.headers, *hints],
        body=body,
        cut=failure.cut,
        failure=failure.name,
        request=request,
    )


def _request_without_question(key: str, user: str = "") -> Request:
    """What stands for the question of a request without one."""
    return Request(
        endpoint="chat/completions",
        key=key,
        body={},
        digest=hashlib.sha256(user.encode()).digest(),
        model="simulated",
        messages=[{"role": "user", "content": user}],
        user=user,
        choices=1,
        max_tokens=None,
        prompt_tokens=0,
    )


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


def _masked(key: str) -> str:
    """A key as OpenAI prints it: enough to know it by, too little to use it."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 16 else "*" * 8
