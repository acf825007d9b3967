"""Other failures in the words of single providers and gateways, where they differ from OpenAI's."""

from __future__ import annotations

from gptflow.mock.failure.model import (
    TEXT,
    ServerFailure,
    error,
    fixed,
    json_of,
    said,
    seconds_hint,
)

_INVALID = "invalid_request_error"
_SHOULD_RETRY = ((b"x-should-retry", b"true"),)

ACCESS_ELSEWHERE = (
    ServerFailure(
        "llama_invalid_key",
        "There is no such key (llama.cpp).",
        401,
        said("Invalid API Key", type="authentication_error", code=401),
    ),
    ServerFailure(
        "quoted_key_401",
        "There is no such key, and the message says which: all of it (proxies).",
        401,
        error("No such key: {0.whole_key}", "authentication_error", None),
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
        "azure_no_deployment",
        "There is no such deployment (Azure).",
        404,
        said("The API deployment for this resource does not exist.", code="DeploymentNotFound"),
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
        said("No endpoints found for simulated/model.", code=404),
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
        said("prompt contains an invalid token", code=400, tokens=[401, 402, 429, 503]),
    ),
    ServerFailure(
        "llama_bad_output_500",
        "The model's words do not fit its format: the same call fails again (llama.cpp).",
        500,
        said(
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
        said("No instances available", code=503),
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
