"""Failures in the words of single providers and gateways, where they differ from OpenAI's."""

from __future__ import annotations

from typing import Any

from gptflow.mock.failure.model import (
    TEXT,
    Body,
    Facts,
    Header,
    ServerFailure,
    error,
    fixed,
    json_of,
    milliseconds_hint,
    seconds_hint,
)

_INVALID = "invalid_request_error"
_SHOULD_RETRY = ((b"x-should-retry", b"true"),)


def _said(message: str, **more: Any) -> Body:
    """An error object with these members and no others."""
    return json_of({"error": {"message": message, **more}})


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
        _said("Provider returned error", code=429, metadata={"provider_name": "Simulated"}),
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
        _said(
            "Your account org-simulated is suspended due to insufficient balance, please recharge "
            "your account or check your plan and billing details",
            type="exceeded_current_quota_error",
        ),
    ),
    ServerFailure(
        "zhipu_balance",
        "The account is empty: a 429 whose code is a number as text (Zhipu).",
        429,
        _said("Insufficient balance or no resource package. Please recharge.", code="1113"),
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
        _said("Insufficient credits", code=402),
    ),
)

ACCESS_ELSEWHERE = (
    ServerFailure(
        "llama_invalid_key",
        "There is no such key (llama.cpp).",
        401,
        _said("Invalid API Key", type="authentication_error", code=401),
    ),
    ServerFailure(
        "gemini_invalid_key",
        "There is no such key: a 400 (Gemini).",
        400,
        json_of(
            [
                {
                    "error": {
                        "code": 400,
                        "message": "API key not valid. Please pass a valid API key.",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ]
        ),
    ),
    ServerFailure(
        "gemini_nothing_granted",
        "The key's plan does not hold the model: a limit of 0 that no wait will raise (Gemini).",
        429,
        _gemini_quota(0, " Please retry in 1.5s."),
    ),
    ServerFailure(
        "azure_no_deployment",
        "There is no such deployment (Azure).",
        404,
        _said("The API deployment for this resource does not exist.", code="DeploymentNotFound"),
    ),
    ServerFailure(
        "ollama_no_model",
        "The model was not pulled (Ollama).",
        404,
        error('model "{0.model}" not found, try pulling it first', "not_found_error", None),
    ),
    ServerFailure(
        "deepseek_no_model",
        "There is no such model: a 400 (DeepSeek).",
        400,
        error("Model Not Exist", _INVALID, _INVALID),
    ),
    ServerFailure(
        "mistral_no_model",
        "There is no such model: a 400 with the error at the top (Mistral).",
        400,
        json_of(
            {
                "object": "error",
                "message": "Invalid model: simulated",
                "type": "invalid_model",
                "param": None,
                "code": "1500",
            }
        ),
    ),
    ServerFailure(
        "anthropic_no_model",
        "There is no such model: its name is all that is said (Anthropic).",
        404,
        json_of(
            {
                "type": "error",
                "error": {"type": "not_found_error", "message": "model: simulated"},
            }
        ),
    ),
    ServerFailure(
        "openrouter_no_endpoints",
        "Nobody serves the model (OpenRouter).",
        404,
        _said("No endpoints found for simulated/model.", code=404),
    ),
)

REQUEST_ELSEWHERE = (
    ServerFailure(
        "vllm_flat_400",
        "An error without the object around it (older vLLM).",
        400,
        json_of(
            {
                "object": "error",
                "message": "n must be 1 when using greedy sampling.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        ),
    ),
    ServerFailure(
        "quoted_prompt_400",
        "A message that quotes a prompt, which speaks of quotas, keys and 429 (proxies).",
        400,
        error(
            "Invalid value for 'messages[0]': '429 Too Many Requests: insufficient_quota. You "
            "exceeded your current quota. Incorrect API key provided. Rate limit reached, please "
            "try again in 20s. The model `x` does not exist.'",
            _INVALID,
            None,
            "messages",
        ),
    ),
    ServerFailure(
        "token_id_429_400",
        "A list of token ids, 429 among them, beside the error (proxies).",
        400,
        _said("prompt contains an invalid token", code=400, tokens=[401, 402, 429, 503]),
    ),
    ServerFailure(
        "llama_bad_output_500",
        "The model's words do not fit its format: the same call fails again (llama.cpp).",
        500,
        _said(
            "The model produced output that does not match the expected peg-native format",
            type="server_error",
            code=500,
        ),
    ),
    ServerFailure(
        "should_retry_400",
        "A 400 that says x-should-retry: true.",
        400,
        error("The request could not be processed just now.", _INVALID, None),
        headers=_SHOULD_RETRY,
    ),
)

SERVER_ELSEWHERE = (
    ServerFailure(
        "busy_503",
        "The server is busy, and names a wait (OpenRouter).",
        503,
        _said("No instances available", code=503),
        hint=seconds_hint,
        wait_s=2,
    ),
    ServerFailure(
        "shedding_503",
        "The server sheds load, with x-should-retry: false.",
        503,
        error("Service temporarily unavailable", "server_error", None),
        headers=((b"x-should-retry", b"false"),),
    ),
    ServerFailure(
        "vllm_dead_500",
        "The engine behind the server is dead (vLLM).",
        500,
        error("EngineCore encountered an issue.", "InternalServerError", 500),
    ),
    ServerFailure(
        "ollama_error_500",
        "An error inside the server, without a code (Ollama).",
        500,
        error("llama runner process has terminated", "api_error", None),
    ),
    ServerFailure(
        "gateway_no_channel_503",
        "A gateway without a free channel, with a code that misleads (one-api and its kin).",
        503,
        error("No available channel for model {0.model}", "new_api_error", "model_not_found"),
    ),
    ServerFailure(
        "bare_text_500", "A 500 in plain words.", 500, fixed(b"Internal Server Error"), TEXT
    ),
)
