"""The parameters of the chat completions API, and the check of those that a spec gives.

Names, types and descriptions are in parameters.json, which `spec.schema` generates from the
`openai` package's own types, so that checking needs no SDK.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptflow.spec.expectation import Fragment, expected, fits, found
from gptflow.spec.origin import KeyPath, Origin
from gptflow.spec.problems import Problem, did_you_mean
from gptflow.spec.scalar import resolve_plain

PARAMETERS_FILE = Path(__file__).with_name("parameters.json")

SET_BY_GPTFLOW = ("messages", "model", "n", "stream", "stream_options")
"""Parameters of the API that no spec gives."""

OWN_KEYS = ("name", "extra_body")
"""Keys of `model` that are not parameters of the API."""

_ELSE = "model.extra_body passes anything else through"
_IN_CONFIG = "keys, hosts and base URLs stand in config.json alone"
_IN_LIMITS = "timeouts and attempts stand under `limits`: timeout_s, attempts"
_NAME = "the model's name is `name`"
HINTS = {
    "messages": "the steps' system, examples and prompt make the messages",
    "model": _NAME,
    "n": "a call has one reply; for several, repeat the rows or the step",
    "stream": "replies are read whole",
    "stream_options": "replies are read whole",
    **dict.fromkeys(("engine", "model_name", "model_id", "deployment"), _NAME),
    **dict.fromkeys(("api_key", "base_url", "api_base", "organization", "project"), _IN_CONFIG),
    **dict.fromkeys(("timeout", "timeout_s", "max_retries", "retries", "attempts"), _IN_LIMITS),
    **dict.fromkeys(("max_new_tokens", "max_length"), "did you mean 'max_tokens'?"),
}
"""What to say of parameters that gptflow sets itself, and of words that are no parameter's."""


@functools.cache
def api_parameters() -> dict[str, Fragment]:
    """The JSON Schema of each parameter that a spec may give, by name."""
    parameters: dict[str, Fragment] = json.loads(PARAMETERS_FILE.read_bytes())["parameters"]
    return parameters


def model_sections(data: Any) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The `model` of the spec and those of its steps, as far as they are mappings."""
    if not isinstance(data, dict):
        return
    steps = data.get("steps")
    candidates: list[tuple[KeyPath, Any]] = [(("model",), data.get("model"))]
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, dict):
            candidates.append((("steps", index, "model"), step.get("model")))
    yield from ((path, model) for path, model in candidates if isinstance(model, dict))


def parameter_problems(data: Any, origin: Origin) -> list[Problem]:
    """What is wrong with the parameters that a spec's data gives."""
    problems = []
    for path, model in model_sections(data):
        for name, value in model.items():
            if name not in OWN_KEYS:
                problem = _problem((*path, name), name, value, origin)
                problems += [problem] if problem else []
    return problems


def read_numbers(data: Any, paths: set[KeyPath]) -> None:
    """Turns text from the environment into what the parameter at its path expects, in place."""
    for path, model in model_sections(data):
        for name, value in model.items():
            fragment = api_parameters().get(name)
            if fragment and (*path, name) in paths and not fits(value, fragment):
                model[name] = resolve_plain(value)


def _problem(path: KeyPath, name: str, value: object, origin: Origin) -> Problem | None:
    fragment = api_parameters().get(name)
    if fragment is None:
        place = origin.place(path, key=True)
        return Problem(f"the API has no parameter '{name}'", place, _hint_for_unknown(name))
    if fits(value, fragment):
        return None
    return Problem(
        f"expected {expected(fragment)}, found {found(value)}",
        origin.place(path, key=value is None or isinstance(value, dict | list)),
        f"{name}: {fragment['description'].split('. ')[0].removesuffix('.')}",
    )


def _hint_for_unknown(name: str) -> str:
    if name in HINTS:
        return HINTS[name]
    near = did_you_mean(name, [*api_parameters(), *OWN_KEYS])
    return f"did you mean '{near}'? {_ELSE}" if near else _ELSE
