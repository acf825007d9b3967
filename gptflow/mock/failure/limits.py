"""Failures that concern the key: limits, money, access."""

from __future__ import annotations

import msgspec

from gptflow.mock.duration import iso_time
from gptflow.mock.failure.model import (
    Body,
    Completion,
    Facts,
    Header,
    Hint,
    ServerFailure,
    date_hint,
    error,
    milliseconds_hint,
    openai_hint,
    seconds_hint,
)

_LIMITS_PAGE = "Visit https://platform.openai.com/account/rate-limits to learn more."
_ERRORS_PAGE = "https://platform.openai.com/docs/guides/error-codes/api-errors"
_INVALID = "invalid_request_error"


def _reached(kind: str, measure: str) -> Body:
    return error(
        "Rate limit reached for {0.model} in organization {0.organization} on "
        f"{measure}: Limit {{0.limit}}, Used {{0.used}}, Requested {{0.requested}}. "
        f"Please try again in {{0.wait}}. {_LIMITS_PAGE}",
        kind,
        "rate_limit_exceeded",
    )


def _anthropic_hint(facts: Facts) -> list[Header]:
    """The limit's end as an ISO timestamp, and retry-after."""
    return [
        (b"anthropic-ratelimit-requests-limit", b"%d" % facts.limit),
        (b"anthropic-ratelimit-requests-remaining", b"0"),
        (b"anthropic-ratelimit-requests-reset", iso_time(facts.now + facts.wait_s).encode()),
        *seconds_hint(facts),
    ]


def _rate_limit(
    name: str, about: str, body: Body, hint: Hint | None, wait_s: float = 1.0
) -> ServerFailure:
    return ServerFailure(name, about, 429, body, hint=hint, wait_s=wait_s)


def _openrouter_in_flight(_: Facts, __: Completion) -> bytes:
    message = "Too many requests in flight for the credits that are left"
    metadata = {"limit_source": "openrouter_in_flight_budget"}
    return msgspec.json.encode({"error": {"code": 402, "message": message, "metadata": metadata}})


RATE_LIMITS = (
    _rate_limit(
        "rate_limit_rpm",
        "Requests per minute are used up (OpenAI).",
        _reached("requests", "requests per min (RPM)"),
        openai_hint("requests"),
    ),
    _rate_limit(
        "rate_limit_tpm",
        "Tokens per minute are used up (OpenAI).",
        _reached("tokens", "tokens per min (TPM)"),
        openai_hint("tokens"),
    ),
    _rate_limit(
        "rate_limit_rpd",
        "Requests per day are used up: the wait is hours.",
        _reached("requests", "requests per day (RPD)"),
        openai_hint("requests"),
        6 * 3600,
    ),
    _rate_limit(
        "rate_limit_tpd",
        "Tokens per day are used up: the wait is hours.",
        _reached("tokens", "tokens per day (TPD)"),
        openai_hint("tokens"),
        6 * 3600,
    ),
    _rate_limit(
        "rate_limit_text_only",
        "The wait stands in the message alone, in no header.",
        _reached("requests", "requests per min (RPM)"),
        None,
    ),
    _rate_limit(
        "rate_limit_azure",
        "Azure: the code is the text 429, the wait is in retry-after and retry-after-ms.",
        error(
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded "
            "call rate limit of your current OpenAI pricing tier. Please retry after "
            "{0.wait_s:.0f} seconds.",
            None,
            "429",
        ),
        milliseconds_hint,
    ),
    _rate_limit(
        "rate_limit_date",
        "The wait is a retry-after that is a date.",
        _reached("requests", "requests per min (RPM)"),
        date_hint,
    ),
    _rate_limit(
        "rate_limit_anthropic",
        "The wait is a timestamp in anthropic-ratelimit-requests-reset, and retry-after.",
        error("This request would exceed your rate limit.", "rate_limit_error", None),
        _anthropic_hint,
    ),
    _rate_limit(
        "rate_limit_silent",
        "A 429 that says nothing about when to come again.",
        error("Too many requests", "rate_limit_error", None),
        None,
    ),
    _rate_limit(
        "rate_limit_credit_type",
        "A plain rate limit whose type says credit_limit (Together).",
        error(
            "You have reached the rate limit of {0.limit} requests per minute.",
            "credit_limit",
            None,
        ),
        None,
    ),
    _rate_limit(
        "request_too_large",
        "One request needs more tokens than the limit of a whole minute. Waiting is in vain.",
        error(
            "Request too large for {0.model} in organization {0.organization} on tokens per min "
            "(TPM): Limit {0.limit}, Requested {0.requested}. The input or output tokens must be "
            f"reduced in order to run successfully. {_LIMITS_PAGE}",
            "tokens",
            "rate_limit_exceeded",
        ),
        None,
    ),
)

MONEY = (
    ServerFailure(
        "insufficient_quota",
        "The key has no money left. Waiting is in vain, though it is a 429.",
        429,
        error(
            "You exceeded your current quota, please check your plan and billing details. For "
            f"more information on this error, read the docs: {_ERRORS_PAGE}.",
            "insufficient_quota",
            "insufficient_quota",
        ),
    ),
    ServerFailure(
        "billing_not_active",
        "The account's billing is off.",
        429,
        error(
            "Your account is not active, please check your billing details on our website.",
            "billing_not_active",
            "billing_not_active",
        ),
    ),
    ServerFailure(
        "billing_hard_limit",
        "The account's own cap on spending is reached: a 400 that is the key's fault.",
        400,
        error("Billing hard limit has been reached", _INVALID, "billing_hard_limit_reached"),
    ),
    ServerFailure(
        "insufficient_balance",
        "The account is empty (DeepSeek).",
        402,
        error("Insufficient Balance", "unknown_error", _INVALID),
    ),
    ServerFailure(
        "openrouter_credits",
        "The credits are used up (OpenRouter).",
        402,
        error(
            "This request requires more credits, or fewer max_tokens. To increase, visit "
            "https://openrouter.ai/settings/credits and upgrade to a paid account",
            None,
            402,
        ),
    ),
    ServerFailure(
        "openrouter_in_flight",
        "A 402 that passes: too much is in flight for the credits left (OpenRouter).",
        402,
        _openrouter_in_flight,
        hint=seconds_hint,
        wait_s=1,
    ),
    ServerFailure(
        "usage_limit_400",
        "A spending limit that comes as a 400 (Anthropic).",
        400,
        error(
            "You have reached your specified API usage limits. You will regain access on "
            "2030-01-01 at 00:00 UTC.",
            _INVALID,
            None,
        ),
    ),
)

ACCESS = (
    ServerFailure(
        "invalid_api_key",
        "There is no such key.",
        401,
        error(
            "Incorrect API key provided: {0.key}. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            _INVALID,
            "invalid_api_key",
        ),
    ),
    ServerFailure(
        "account_deactivated",
        "The key's account is closed.",
        401,
        error(
            "The OpenAI account associated with this API key has been deactivated.",
            _INVALID,
            "account_deactivated",
        ),
    ),
    ServerFailure(
        "account_deactivated_text",
        "The same by the text alone, with a type that misleads (proxies).",
        401,
        error(
            "The OpenAI account associated with this API key has been deactivated.",
            "requests",
            None,
        ),
    ),
    ServerFailure(
        "access_terminated",
        "The account's access was ended for breaking the rules.",
        401,
        error(
            "Your access was terminated due to violation of our policies.",
            None,
            "access_terminated",
        ),
    ),
    ServerFailure(
        "invalid_organization",
        "The OpenAI-Organization header names one that there is not.",
        401,
        error("No such organization: {0.organization}.", _INVALID, "invalid_organization"),
    ),
    ServerFailure(
        "mismatched_organization",
        "The OpenAI-Organization header names another organization than the key's.",
        401,
        error(
            "OpenAI-Organization header should match organization for API key",
            _INVALID,
            "mismatched_organization",
        ),
    ),
    ServerFailure(
        "mismatched_project",
        "The OpenAI-Project header names another project than the key's.",
        401,
        error(
            "OpenAI-Project header should match project for API key",
            _INVALID,
            "mismatched_project",
        ),
    ),
    ServerFailure(
        "ip_not_allowed",
        "This machine is not on the key's list of addresses.",
        401,
        error(
            "Your IP address is not authorized to use this API key", _INVALID, "ip_not_authorized"
        ),
    ),
    ServerFailure(
        "unsupported_region",
        "This machine is in a country that is not served.",
        403,
        error(
            "Country, region, or territory not supported",
            "request_forbidden",
            "unsupported_country_region_territory",
        ),
    ),
    ServerFailure(
        "model_not_found",
        "There is no such model, or not for this key.",
        404,
        error(
            "The model `{0.model}` does not exist or you do not have access to it.",
            _INVALID,
            "model_not_found",
        ),
    ),
    ServerFailure(
        "model_no_access",
        "The key's project may not use this model.",
        403,
        error(
            "Project `proj_simulated` does not have access to model `{0.model}`",
            _INVALID,
            "model_not_found",
        ),
    ),
)
