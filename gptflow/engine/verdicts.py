"""Decides what a failed attempt means: for the call, for the key, for the run.

The order of evidence: transport, status, the provider's code, its type, and last a pattern on the
error's message. Never the whole body, since providers quote prompts in it. The cases and their
bytes are in tests/engine/test_verdicts.py; what comes of each, with a real server, in
tests/engine/test_failures_of_providers.py.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from gptflow.engine.attempt import FaultKind, Flaw, FlawKind, Response, TransportFault
from gptflow.engine.error_body import ErrorBody, read_error
from gptflow.engine.limits import header, parse_wait
from gptflow.records import Failure, FailureKind, Reply


class VerdictKind(StrEnum):
    """What to do about a failed attempt."""

    REST = "rest"
    """The key is at its rate limit: it rests, the call goes on elsewhere, nobody is charged."""
    EXHAUSTED = "exhausted"
    """The key has no money or quota left."""
    RETIRED = "retired"
    """The key, or its entry in the configuration, is not valid."""
    NO_MODEL = "no model"
    """The key does not serve this model."""
    REJECTED = "rejected"
    """The server will never accept this call."""
    REFUSED = "refused"
    """The content was declined."""
    RETRY = "retry"
    """A passing fault: the call is charged an attempt and sent again."""
    STOP = "stop"
    """The machine, the proxy or the region is at fault: no key and no call will do better."""


class Verdict(msgspec.Struct, frozen=True):
    """What a failed attempt means."""

    kind: VerdictKind
    message: str
    """One line for a person."""
    failure: FailureKind = FailureKind.REJECTED
    """What the call fails as, if this verdict is its last."""
    status: int | None = None
    code: str | None = None
    wait_s: float | None = None
    """When the server wants to be asked again, if it said so."""
    hint: str | None = None
    """What a person can do about it."""
    tries: int | None = None
    """Attempts after which asking again is throwing money away; None: as many as allowed."""
    text: str | None = None
    """What the model did say, if anything."""
    reply: Reply | None = None
    """The response as a reply, where it was paid for."""


_NO_MONEY, _FORBIDDEN, _NOT_FOUND, _TOO_LONG, _TOO_MANY = 402, 403, 404, 413, 429
_SERVER_ERROR = 500
_ERROR_STATUS = re.compile(r"[45]\d\d")
_SUCCESSES = range(200, 300)
_REDIRECTS = range(300, 400)
_WRONG_PLACES = frozenset({404, 405})
_MONEY_STATUSES = frozenset({403, 429})
_MODEL_STATUSES = frozenset({400, 403, 404})

_FAILURES = {VerdictKind.RETRY: FailureKind.SERVER, VerdictKind.REFUSED: FailureKind.REFUSED}

_HINTS = {
    VerdictKind.EXHAUSTED: "pay in credit, or add another key",
    VerdictKind.RETIRED: 'check "api_key"',
    VerdictKind.NO_MODEL: "check the name of the model, and whether the key may use it",
    VerdictKind.STOP: "run from a machine and a network that the provider serves",
}

_BASE_URL = 'check "base_url": for most servers it ends in /v1'

_BY_CODE = {
    "insufficient_quota": VerdictKind.EXHAUSTED,
    "billing_not_active": VerdictKind.EXHAUSTED,
    "billing_hard_limit_reached": VerdictKind.EXHAUSTED,  # comes as a 400
    "Arrearage": VerdictKind.EXHAUSTED,  # DashScope, as a 400
    "1113": VerdictKind.EXHAUSTED,  # Zhipu: no balance, as a 429
    "invalid_api_key": VerdictKind.RETIRED,
    "account_deactivated": VerdictKind.RETIRED,
    "access_terminated": VerdictKind.RETIRED,
    "mismatched_organization": VerdictKind.RETIRED,
    "invalid_organization": VerdictKind.RETIRED,
    "mismatched_project": VerdictKind.RETIRED,
    "model_not_found": VerdictKind.NO_MODEL,
    "DeploymentNotFound": VerdictKind.NO_MODEL,
    "content_policy_violation": VerdictKind.REFUSED,
    "content_filter": VerdictKind.REFUSED,
    "ResponsibleAIPolicyViolation": VerdictKind.REFUSED,
    "invalid_prompt": VerdictKind.REFUSED,
    "cyber_policy": VerdictKind.REFUSED,
    "context_length_exceeded": VerdictKind.REJECTED,
    "string_above_max_length": VerdictKind.REJECTED,
    "unsupported_country_region_territory": VerdictKind.STOP,
    "rate_limit_exceeded": VerdictKind.REST,
    "openrouter_in_flight_budget": VerdictKind.REST,  # a 402 that passes
    "RESOURCE_EXHAUSTED": VerdictKind.REST,  # Gemini: a minute's or a day's, in words of money
}

_BY_TYPE = {
    "insufficient_quota": VerdictKind.EXHAUSTED,
    "billing_not_active": VerdictKind.EXHAUSTED,
    "exceeded_current_quota_error": VerdictKind.EXHAUSTED,  # Moonshot, which has no codes
    "invalid_model": VerdictKind.NO_MODEL,  # Mistral, whose codes are numbers
    "rate_limit_error": VerdictKind.REST,
    "overloaded_error": VerdictKind.RETRY,
    "exceed_context_size_error": VerdictKind.REJECTED,
    "not_supported_error": VerdictKind.REJECTED,
}

_BY_STATUS = {
    401: VerdictKind.RETIRED,
    402: VerdictKind.EXHAUSTED,
    403: VerdictKind.RETIRED,
    405: VerdictKind.RETIRED,  # a web server at a path that is no API
    407: VerdictKind.STOP,
    408: VerdictKind.RETRY,
    409: VerdictKind.RETRY,
    425: VerdictKind.RETRY,
    429: VerdictKind.REST,
    498: VerdictKind.RETRY,  # Groq: the flexible tier is full
    499: VerdictKind.RETRY,  # a gateway gave up on the server behind it
    501: VerdictKind.REJECTED,  # llama.cpp: the feature is not built in
}

# Patterns look at the start of a message only: further on it may quote the prompt, and a prompt
# must not be able to take a key out of service.
# llama.cpp's 500 for a reply that its own parser does not take is the same for the same call.
_MISSED_SCHEMA = re.compile(r"the model produced output that does not match\b", re.IGNORECASE)
_TOO_LARGE = re.compile(r"request too large\b|.*\bmust be reduced in order\b", re.IGNORECASE)
_NOTHING_GRANTED = re.compile(
    r"you exceeded your current quota\b.{0,600}?\blimit: 0\b", re.IGNORECASE
)  # Gemini, for a model that the key's plan does not hold
_NO_QUOTA = re.compile(
    r"you exceeded your current quota|insufficient (?:balance|quota|credits?|funds)"
    r"|(?:sorry, )?your account balance is insufficient|you have run out of credits"
    r"|your (?:team|account) \S{1,80} (?:has either used all|.{0,60}insufficient balance)",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"(?:the |this )?model\b.{0,120}?\b(?:not found|not exist|no access|not have access)"
    r"|project\b.{0,80}?\bnot have access to model\b"
    r"|\S+ is not a valid model|no endpoints found for\b|no such model\b"
    r"|model: \S+\s*$",  # Anthropic's whole message
    re.IGNORECASE,
)
_PATTERNS = {
    400: {
        r"you have reached your specified api usage limits": VerdictKind.EXHAUSTED,
        r"your credit balance is too low": VerdictKind.EXHAUSTED,
        r"billing hard limit": VerdictKind.EXHAUSTED,
        r"api key (?:not valid|not found|expired|is invalid)": VerdictKind.RETIRED,
        r"user location is not supported": VerdictKind.STOP,
        r".*\bcontent management policy\b|.*\bsafety system\b": VerdictKind.REFUSED,
    },
    401: {r".{0,40}\bIP\b.{0,80}\bnot (?:authorized|allowed|on the)\b": VerdictKind.STOP},
    403: {
        r"out of (?:call volume|bandwidth) quota": VerdictKind.REST,  # Azure API Management
        r"(?:invalid|missing|incorrect|unknown) (?:api )?(?:key|token)\b": VerdictKind.RETIRED,
        r"country, region, or territory not supported": VerdictKind.STOP,
        r".*\bmoderation\b|.*\bwas flagged\b": VerdictKind.REFUSED,
    },
    404: {r"invalid url\b|(?:file |page |path )?not found\b": VerdictKind.RETIRED},
}
_BY_PATTERN = {
    status: [(re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in rows.items()]
    for status, rows in _PATTERNS.items()
}


def judge_fault(fault: TransportFault) -> Verdict:
    """What an attempt without a response means."""
    match fault.kind:
        case FaultKind.CERTIFICATE:
            hint = "check base_url; behind a company proxy, name its certificate in SSL_CERT_FILE"
            return Verdict(VerdictKind.RETIRED, fault.message, hint=fault.hint or hint)
        case FaultKind.PROXY:
            hint = "correct the variable that names the proxy, or unset it"
            return Verdict(VerdictKind.STOP, fault.message, hint=fault.hint or hint)
        case FaultKind.OVERSIZE:
            return Verdict(VerdictKind.REJECTED, fault.message)
        case FaultKind.TIMEOUT:
            return Verdict(VerdictKind.RETRY, fault.message, failure=FailureKind.TIMEOUT)
        case FaultKind.CONNECT | FaultKind.BROKEN:
            return Verdict(VerdictKind.RETRY, fault.message, failure=FailureKind.TRANSPORT)


def judge_flaw(flaw: Flaw, response: Response, now_wall: float) -> Verdict:
    """What a response of status 200 that is no reply means."""
    again, status = VerdictKind.RETRY, response.status
    match flaw.kind:
        case FlawKind.ERROR:
            return _judge_inner(response, now_wall)
        case FlawKind.REFUSED:
            kind, failure = VerdictKind.REFUSED, FailureKind.REFUSED
            return Verdict(
                kind,
                flaw.message,
                failure=failure,
                status=status,
                text=flaw.text,
                reply=flaw.reply,
            )
        case FlawKind.CUT_OFF:
            return Verdict(
                again,
                flaw.message,
                failure=FailureKind.EMPTY,
                status=status,
                hint="raise max_tokens",
                tries=1,
                reply=flaw.reply,
            )
        case FlawKind.EMPTY:  # each of these was paid for
            return Verdict(
                again,
                flaw.message,
                failure=FailureKind.EMPTY,
                status=status,
                tries=3,
                reply=flaw.reply,
            )
        case FlawKind.UNREADABLE | FlawKind.BROKEN_OFF:
            return Verdict(
                again,
                flaw.message,
                failure=FailureKind.SERVER,
                status=status,
                hint=_BASE_URL if read_error(response.body).markup else None,
                text=flaw.text,
            )


def failure_of(
    verdict: Verdict, step: str, *, attempts: int, history: tuple[str, ...] = ()
) -> Failure:
    """What a call has failed with whose last verdict this is."""
    return Failure(
        kind=verdict.failure,
        message=f"{verdict.message} ({verdict.hint})" if verdict.hint else verdict.message,
        step=step,
        status=verdict.status,
        code=verdict.code,
        attempts=attempts,
        replies=0 if verdict.reply is None else 1,
        reply=verdict.text,
        history=history,
    )


def judge_response(response: Response, now_wall: float) -> Verdict:
    """What a response with another status than 2xx means."""
    return _verdict(response.status, read_error(response.body), response, now_wall)


def _judge_inner(response: Response, now_wall: float) -> Verdict:
    """An error object inside a 200: OpenRouter names the status it would have had in `code`."""
    error = read_error(response.body)
    named = next((int(code) for code in error.codes if _ERROR_STATUS.fullmatch(code)), None)
    return _verdict(named or response.status, error, response, now_wall)


def _verdict(status: int, error: ErrorBody, response: Response, now_wall: float) -> Verdict:
    wait_s = parse_wait(response.headers, error.full or error.message, now_wall)
    kind = _kind(status, error, wait_s is not None)
    failure = _FAILURES.get(kind, FailureKind.REJECTED)
    if status == _NO_MONEY and header(response.headers, "retry-after"):
        kind = VerdictKind.REST  # OpenRouter's budget for what is under way, not the account's
    if kind is VerdictKind.REJECTED and header(response.headers, "x-should-retry") == "true":
        # Its "false" decides nothing: it comes with overload too, and a row must outlive that.
        kind = VerdictKind.RETRY
    return Verdict(
        kind=kind,
        message=error.message or f"the server answered {status} without a message",
        failure=failure,
        status=status,
        code=error.code,
        wait_s=wait_s,
        hint=_hint(kind, status, error.code),
        tries=2 if _MISSED_SCHEMA.match(error.message) else None,
    )


def _kind(status: int, error: ErrorBody, named_wait: bool) -> VerdictKind:
    if status >= _SERVER_ERROR:  # gateways put any code into a passing 503
        return _BY_STATUS.get(status, VerdictKind.RETRY)
    if status == _FORBIDDEN and error.markup:  # a firewall's page, which blames no key
        return VerdictKind.RETRY
    if status == _TOO_LONG or (status == _TOO_MANY and _TOO_LARGE.match(error.message)):
        return VerdictKind.REJECTED  # by its code it is a rate limit
    if status == _TOO_MANY and _NOTHING_GRANTED.match(error.full):
        return VerdictKind.NO_MODEL
    return _by_name(error) or _by_message(status, error, named_wait) or _by_default(status, error)


def _by_name(error: ErrorBody) -> VerdictKind | None:
    if error.flagged:
        return VerdictKind.REFUSED
    by_code = next((_BY_CODE[code] for code in error.codes if code in _BY_CODE), None)
    return by_code or _BY_TYPE.get(error.type)


def _by_message(status: int, error: ErrorBody, named_wait: bool) -> VerdictKind | None:
    if status in _MODEL_STATUSES and _MODEL.match(error.message):
        return VerdictKind.NO_MODEL
    if status in _MONEY_STATUSES and not named_wait and _NO_QUOTA.match(error.message):
        # Gemini says the same of a limit per minute, but then names the wait.
        return VerdictKind.EXHAUSTED
    rows = _BY_PATTERN.get(status, ())
    return next((kind for pattern, kind in rows if pattern.match(error.message)), None)


def _by_default(status: int, error: ErrorBody) -> VerdictKind:
    if status in _REDIRECTS or (status == _NOT_FOUND and not error.structured):
        return VerdictKind.RETIRED
    if status == _FORBIDDEN and not error.structured:  # whoever forbids it, it is not the API
        return VerdictKind.RETRY
    default = VerdictKind.RETRY if status in _SUCCESSES else VerdictKind.REJECTED
    return _BY_STATUS.get(status, default)


def _hint(kind: VerdictKind, status: int, code: str | None) -> str | None:
    if kind is VerdictKind.RETIRED:
        if status in _REDIRECTS or status in _WRONG_PLACES:
            return _BASE_URL
        if code and ("organization" in code or "project" in code):
            return 'check "organization": it must be one that the key belongs to'
    return _HINTS.get(kind)
