"""Limits and money in the words of single providers, where they differ from OpenAI's."""

from __future__ import annotations

from typing import Any

from gptflow.mock.failure.model import (
    Body,
    Facts,
    Header,
    ServerFailure,
    error,
    json_of,
    milliseconds_hint,
    said,
    seconds_hint,
)

_INVALID = "invalid_request_error"


def _resets_only(facts: Facts) -> list[Header]:
    return [
        (b"x-ratelimit-remaining-requests", b"0"),
        (b"x-ratelimit-reset-requests", facts.wait.encode()),
    ]


def _zeros(_: Facts) -> list[Header]:
    return [
        (b"retry-after", b"0"),
        (b"x-ratelimit-remaining-tokens", b"-1"),
        (b"x-ratelimit-reset-tokens", b"0"),
    ]


def _gemini_quota(limit: int, ending: str, *, delay: str | None = None) -> Body:
    """A quota of Gemini's that is used up: four metrics, in a list with the error in it."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier"
    lines = [
        f"* Quota exceeded for metric: {metric}_{unit}, limit: {limit}, model: simulated-pro"
        for unit in ("requests", "requests", "input_token_count", "input_token_count")
    ]
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more "
        "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. "
        "To monitor your current usage, head to: https://ai.dev/rate-limit. \n"
    )
    wrong: dict[str, Any] = {
        "code": 429,
        "message": message + "\n".join(lines) + ending,
        "status": "RESOURCE_EXHAUSTED",
    }
    if delay is not None:
        told = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
        wrong["details"] = [{"@type": "type.googleapis.com/google.rpc.Help", "links": []}, told]
    return json_of([{"error": wrong}])


LIMITS_ELSEWHERE = (
    ServerFailure(
        "rate_limit_resets_only",
        "The wait stands in x-ratelimit-reset alone.",
        429,
        error("Too many requests", "requests", "rate_limit_exceeded"),
        hint=_resets_only,
        wait_s=1.0,
    ),
    ServerFailure(
        "azure_zeros",
        "Headers of 0 and -1, which say nothing (Azure).",
        429,
        error("Too Many Requests", None, "too_many_requests"),
        hint=_zeros,
    ),
    ServerFailure(
        "azure_day",
        "The wait is a day (Azure).",
        429,
        error("Requests have exceeded your quota. Please retry after 86400 seconds.", None, "429"),
        hint=milliseconds_hint,
        wait_s=86_400,
    ),
    ServerFailure(
        "openrouter_rate_limit",
        "The provider behind the router is at its limit: a code that is a number (OpenRouter).",
        429,
        said("Provider returned error", code=429, metadata={"provider_name": "Simulated"}),
        hint=seconds_hint,
        wait_s=1,
    ),
    ServerFailure(
        "gemini_rate_limit",
        "A limit in the words of an empty account; the wait ends a long message (Gemini).",
        429,
        _gemini_quota(20, " Please retry in 1.5s."),
    ),
    ServerFailure(
        "gemini_rate_limit_details",
        "The same with the wait in its details alone (Gemini).",
        429,
        _gemini_quota(20, "", delay="1.5s"),
    ),
    ServerFailure(
        "gemini_rate_limit_silent",
        "The same without a wait (Gemini).",
        429,
        _gemini_quota(20, ""),
    ),
    ServerFailure(
        "gemini_nothing_granted",
        "The key's plan does not hold the model: a limit of 0 that no wait will raise (Gemini).",
        429,
        _gemini_quota(0, " Please retry in 1.5s."),
    ),
    ServerFailure(
        "gateway_quota_403",
        "A quota that comes back, as a 403 without an error object (Azure API Management).",
        403,
        json_of(
            {
                "statusCode": 403,
                "message": "Out of call volume quota. Quota will be replenished in 00:01:00.",
            }
        ),
        hint=seconds_hint,
        wait_s=60,
    ),
    ServerFailure(
        "groq_too_large_413",
        "A request larger than a whole minute's tokens: a 413 with a rate limit's code (Groq).",
        413,
        error(
            "Request too large for model `{0.model}` in organization `{0.organization}` service "
            "tier `on_demand` on tokens per minute (TPM): Limit {0.limit}, Requested "
            "{0.requested}, please reduce your message size and try again.",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    ServerFailure(
        "groq_capacity_498",
        "The flexible tier has no capacity: a status of its own, which passes (Groq).",
        498,
        error("Flex tier capacity exceeded, try again later.", "server_error", "capacity_exceeded"),
    ),
)

MONEY_ELSEWHERE = (
    ServerFailure(
        "moonshot_balance",
        "The account is empty: a 429 without a code (Moonshot).",
        429,
        said(
            "Your account org-simulated is suspended due to insufficient balance, please recharge "
            "your account or check your plan and billing details",
            type="exceeded_current_quota_error",
        ),
    ),
    ServerFailure(
        "zhipu_balance",
        "The account is empty: a 429 whose code is a number as text (Zhipu).",
        429,
        said("Insufficient balance or no resource package. Please recharge.", code="1113"),
    ),
    ServerFailure(
        "xai_credits_429",
        "The credits are used up: a 429 whose error is a bare text (xAI).",
        429,
        json_of(
            {
                "code": "Some resource has been exhausted",
                "error": "Your team simulated has either used all available credits or reached "
                "its monthly spending limit. To continue making API requests, please purchase "
                "more credits or raise your spending limit.",
            }
        ),
    ),
    ServerFailure(
        "xai_credits_403",
        "The same as a 403 (xAI).",
        403,
        json_of(
            {
                "code": "The caller does not have permission to execute the specified operation",
                "error": "Your team simulated has either used all available credits or reached "
                "its monthly spending limit.",
            }
        ),
    ),
    ServerFailure(
        "siliconflow_balance_403",
        "The account is empty: a 403 without an error object (SiliconFlow).",
        403,
        json_of({"code": 30001, "message": "Sorry, your account balance is insufficient"}),
    ),
    ServerFailure(
        "dashscope_arrears_400",
        "The account owes money: a 400 (DashScope).",
        400,
        error("Access denied, your account is in arrears.", "Arrearage", "Arrearage"),
    ),
    ServerFailure(
        "anthropic_credit_400",
        "The account is empty: a 400 (Anthropic).",
        400,
        error("Your credit balance is too low to access the Anthropic API.", _INVALID, None),
    ),
    ServerFailure(
        "credits_in_200",
        "The credits ran out before the answer: a 402 within a 200 (OpenRouter).",
        200,
        said("Insufficient credits", code=402),
    ),
)
