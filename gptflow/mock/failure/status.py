"""Failures that an HTTP status names, other than those that concern the key."""

from __future__ import annotations

from gptflow.mock.failure.model import HTML, TEXT, ServerFailure, error, fixed, json_of, page

_INVALID = "invalid_request_error"
_CLOUDFLARE = ((b"server", b"cloudflare"), (b"cf-ray", b"8c0ffee0c0ffee00-FRA"))

REQUEST = (
    ServerFailure(
        "wrong_path",
        "The path is not there: the base URL lacks its /v1 (FastAPI servers).",
        404,
        json_of({"detail": "Not Found"}),
    ),
    ServerFailure(
        "wrong_path_html",
        "The path is not there: the HTML page of a web server that is no API.",
        404,
        page("404 Not Found", "<hr><center>nginx</center>"),
        HTML,
    ),
    ServerFailure(
        "context_length_exceeded",
        "The prompt is longer than the model's context.",
        400,
        error(
            "This model's maximum context length is 16385 tokens. However, your messages resulted "
            "in 20000 tokens. Please reduce the length of the messages.",
            _INVALID,
            "context_length_exceeded",
            "messages",
        ),
    ),
    ServerFailure(
        "vllm_context_length",
        "The same from vLLM, whose code is a number.",
        400,
        error(
            "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum "
            "context length is 4096 tokens and your request has 2778 input tokens (8000 > 4096 - "
            "2778).",
            "BadRequestError",
            400,
            "max_tokens",
        ),
    ),
    ServerFailure(
        "llama_context_size",
        "The same from llama.cpp.",
        400,
        json_of(
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 5000,
                    "n_ctx": 4096,
                }
            }
        ),
    ),
    ServerFailure(
        "string_above_max_length",
        "A text of the request is too long.",
        400,
        error(
            "Invalid 'messages[0].content': string too long. Expected a string with maximum "
            "length 1048576, but got a string with length 2000000 instead.",
            _INVALID,
            "string_above_max_length",
            "messages[0].content",
        ),
    ),
    ServerFailure(
        "content_policy_violation",
        "The prompt is refused by policy.",
        400,
        error(
            "Your request was rejected as a result of our safety system.",
            _INVALID,
            "content_policy_violation",
        ),
    ),
    ServerFailure(
        "invalid_prompt",
        "The prompt is refused by policy (reasoning models).",
        400,
        error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. "
            "Please try again with a different prompt.",
            _INVALID,
            "invalid_prompt",
        ),
    ),
    ServerFailure(
        "cyber_policy",
        "The prompt is refused by policy (attacks on computers).",
        400,
        error(
            "This request was flagged for possible misuse and cannot be processed.",
            _INVALID,
            "cyber_policy",
        ),
    ),
    ServerFailure(
        "azure_content_filter",
        "The prompt is refused by Azure's filter.",
        400,
        json_of(
            {
                "error": {
                    "message": "The response was filtered due to the prompt triggering Azure "
                    "OpenAI's content management policy. Please modify your prompt and retry.",
                    "type": None,
                    "param": "prompt",
                    "code": "content_filter",
                    "status": 400,
                    "innererror": {
                        "code": "ResponsibleAIPolicyViolation",
                        "content_filter_result": {
                            "hate": {"filtered": False, "severity": "safe"},
                            "violence": {"filtered": True, "severity": "medium"},
                        },
                    },
                }
            }
        ),
    ),
    ServerFailure(
        "openrouter_moderation",
        "The prompt is refused by moderation: a 403 that is the row's fault (OpenRouter).",
        403,
        json_of(
            {
                "error": {
                    "code": 403,
                    "message": "Your chosen model requires moderation and your input was flagged",
                    "metadata": {"reasons": ["violence"], "flagged_input": "..."},
                }
            }
        ),
    ),
    ServerFailure(
        "invalid_schema",
        "The response_format's schema is not one that the server takes.",
        400,
        error(
            "Invalid schema for response_format 'reply': In context=(), 'additionalProperties' is "
            "required to be supplied and to be false.",
            _INVALID,
            None,
            "response_format",
        ),
    ),
    ServerFailure(
        "unsupported_parameter",
        "The model does not take a parameter.",
        400,
        error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            _INVALID,
            "unsupported_parameter",
            "max_tokens",
        ),
    ),
    ServerFailure(
        "decimal_above_max_value",
        "A parameter is out of its range.",
        400,
        error(
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 "
            "instead.",
            _INVALID,
            "decimal_above_max_value",
            "temperature",
        ),
    ),
    ServerFailure(
        "gemini_400",
        "A body that is a list with the error in it (Gemini).",
        400,
        json_of(
            [{"error": {"code": 400, "message": "Invalid value", "status": "INVALID_ARGUMENT"}}]
        ),
    ),
    ServerFailure(
        "payload_too_large_413",
        "The body is larger than a proxy lets through.",
        413,
        page("413 Request Entity Too Large", "<hr><center>nginx</center>"),
        HTML,
    ),
    ServerFailure(
        "unprocessable_422",
        "The body does not fit (FastAPI servers).",
        422,
        json_of(
            {
                "detail": [
                    {
                        "loc": ["body", "seed"],
                        "msg": "Input should be a valid integer",
                        "type": "int_parsing",
                    }
                ]
            }
        ),
    ),
    ServerFailure(
        "not_supported_501",
        "The server cannot do this and never will (llama.cpp): permanent, though a 5xx.",
        501,
        error("This server does not support this feature", "not_supported_error", 501),
    ),
)

SERVER = (
    ServerFailure(
        "request_timeout_408",
        "The server gave up waiting.",
        408,
        error("Request timed out.", "timeout", None),
    ),
    ServerFailure(
        "conflict_409",
        "The server lost a race with itself.",
        409,
        error("The request could not be completed due to a conflict.", _INVALID, "conflict"),
    ),
    ServerFailure(
        "server_500",
        "An error inside the server.",
        500,
        error(
            "The server had an error while processing your request. Sorry about that!",
            "server_error",
            None,
        ),
    ),
    ServerFailure(
        "bad_gateway_502",
        "A proxy did not reach its server: an HTML page.",
        502,
        page("502 Bad Gateway", "<hr><center>cloudflare</center>"),
        HTML,
        _CLOUDFLARE,
    ),
    ServerFailure(
        "overloaded_503",
        "The server is overloaded.",
        503,
        error("The engine is currently overloaded, please try again later", "server_error", None),
    ),
    ServerFailure(
        "slow_down_503",
        "This key's traffic grows too fast.",
        503,
        error(
            "Slow down: reduce your request rate to its original level, hold it for at least 15 "
            "minutes, then increase it gradually.",
            "server_error",
            "slow_down",
        ),
    ),
    ServerFailure(
        "loading_503",
        "The model is being loaded (llama.cpp).",
        503,
        error("Loading model", "unavailable_error", 503),
    ),
    ServerFailure(
        "gateway_timeout_504",
        "A proxy did not wait for its server: an HTML page.",
        504,
        page("504 Gateway Time-out", "<hr><center>nginx</center>"),
        HTML,
    ),
    ServerFailure(
        "cloudflare_522",
        "Cloudflare did not reach the server: an HTML page.",
        522,
        page("api.example.com | 522: Connection timed out", "Error code 522"),
        HTML,
        _CLOUDFLARE,
    ),
    ServerFailure(
        "overloaded_529",
        "The server is overloaded (Anthropic).",
        529,
        json_of({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ),
)

NETWORK = (
    ServerFailure(
        "forbidden_html_403",
        "A firewall takes the client for a robot: an HTML page.",
        403,
        page("Just a moment...", "Enable JavaScript and cookies to continue"),
        HTML,
        _CLOUDFLARE,
    ),
    ServerFailure(
        "proxy_auth_407",
        "A proxy wants a password.",
        407,
        fixed(b"Proxy Authentication Required"),
        TEXT,
        ((b"proxy-authenticate", b'Basic realm="proxy"'),),
    ),
    ServerFailure(
        "redirect_302",
        "The answer is elsewhere. A client that follows asks by GET there.",
        302,
        fixed(b""),
        b"",
        ((b"location", b"/v1/models"),),
    ),
)
