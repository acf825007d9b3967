"""The parameters of a call as its caller gives them: whether the API has them, and JSON can."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from enum import Enum
from typing import Any, NoReturn

from gptflow.errors import UsageError

_BOTH = (
    "frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop temperature "
    "top_p user"
)
CHAT = frozenset(
    f"{_BOTH} audio function_call functions max_completion_tokens metadata modalities moderation "
    "parallel_tool_calls prediction prompt_cache_key prompt_cache_options prompt_cache_retention "
    "reasoning_effort response_format safety_identifier service_tier store tool_choice tools "
    "top_logprobs verbosity web_search_options".split()
)
"""https://platform.openai.com/docs/api-reference/chat/create, without those that have their own
place in a call. A test holds this list, and the next, to the `openai` package's types."""
COMPLETIONS = frozenset(f"{_BOTH} best_of echo suffix".split())
"""https://platform.openai.com/docs/api-reference/completions/create, likewise."""

_ATOMS = frozenset({str, int, bool, type(None)})
_STRINGS = frozenset({str})
_OWN = ("engine", "model", "messages", "prompt", "api", "timeout", "extra_body")
_IN_CONFIG = "keys, hosts, organizations and headers stand in config.json alone"
_READ_WHOLE = "replies are read whole: leave it out"
_HINTS = {
    **dict.fromkeys(("api_key", "api_base", "base_url", "organization", "project"), _IN_CONFIG),
    **dict.fromkeys(("extra_headers", "headers", "api_type", "api_version"), _IN_CONFIG),
    **dict.fromkeys(("stream", "stream_options"), _READ_WHOLE),
    **dict.fromkeys(("deployment", "deployment_id", "model_name"), "the model's name is `engine`"),
    **dict.fromkeys(("request_timeout", "timeout_s"), "did you mean 'timeout'?"),
    **dict.fromkeys(("max_retries", "attempts"), "GPTWrapper(..., attempts=8) says how often"),
    **dict.fromkeys(("max_new_tokens", "max_length"), "did you mean 'max_tokens'?"),
    "extra_query": "put it into the base_url's server, or leave it out",
}
_ELSE = "extra_body={...} passes anything else through"


def checked(given: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The parameters to send: those that are not None, as plain JSON values.

    Raises:
        UsageError: the API has no such parameter, or JSON no such value.
    """
    params = {}
    for name, value in given.items():
        if name not in known and not (name == "stream" and value is False):
            raise UsageError(f"the API has no parameter {name!r}", hint=_hint(name, known))
        if value is not None and name in known:
            params[name] = json_value(value, name)
    return params


def json_value(value: Any, where: str) -> Any:
    """A value as JSON has it: members of enums and of subclasses become plain ones.

    Raises:
        UsageError: JSON has no such value; the message names where it stands, from `where` on.
    """
    return value if _is_plain(value) else _converted(value, where)


def merge_extra(params: dict[str, Any], extra: object) -> dict[str, Any]:
    """The parameters with those of extra_body, which win.

    Raises:
        UsageError: it is no dict, or says what has its own place in a call.
    """
    if not isinstance(extra, dict):
        raise UsageError(f"extra_body is {_shown(extra)}, not a dict")
    for name in ("model", "messages", "prompt"):
        if name in extra:
            raise UsageError(f"extra_body may not hold {name!r}", hint=f"give {name}= itself")
    if extra.get("stream"):
        raise UsageError("extra_body may not ask for a stream", hint=_READ_WHOLE)
    plain: dict[str, Any] = json_value(extra, "extra_body")
    return params | plain


def _hint(name: str, known: Iterable[str]) -> str:
    if name in _HINTS:
        return _HINTS[name]
    if name in CHAT | COMPLETIONS:
        return f"this model's API has only {', '.join(sorted(known))}"
    near = difflib.get_close_matches(name, [*known, *_OWN], n=1)
    return f"did you mean {near[0]!r}? {_ELSE}" if near else _ELSE


def _is_plain(value: Any) -> bool:
    """Whether it is JSON as it stands: most calls are, and are through quickly."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is dict:
        return _STRINGS.issuperset(map(type, value)) and all(map(_is_plain, value.values()))
    if kind is list:
        return all(map(_is_plain, value))
    return kind is float and math.isfinite(value)


def _converted(value: Any, where: str) -> Any:
    if isinstance(value, Enum):
        return _converted(value.value, where)
    if isinstance(value, dict):
        return {_name(k, where): _converted(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_converted(part, f"{where}[{index}]") for index, part in enumerate(value)]
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            value = kind(value)
    if not _is_plain(value):
        _refuse(value, where)
    return value


def _name(name: Any, where: str) -> str:
    if not isinstance(name, str):
        _refuse(name, f"a name in {where}")
    return str(name)


def _refuse(value: Any, where: str) -> NoReturn:
    hint = None
    if isinstance(value, type) and where == "response_format":
        hint = (
            "write it as the API has it: {'type': 'json_schema', 'json_schema': {'name': ..., "
            "'schema': Model.model_json_schema()}}"
        )
    elif hasattr(value, "__index__") or hasattr(value, "__float__"):
        hint = "int(...) or float(...) makes it a plain number"
    raise UsageError(f"{where} is {_shown(value)}, which JSON does not have", hint=hint)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
