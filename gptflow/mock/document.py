"""Reads a scenario file: YAML to a Scenario, or to problems with file, line and column."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gptflow.errors import ConfigError
from gptflow.mock.batch.rules import BatchEnd, BatchRules
from gptflow.mock.pace import Concurrency, Latency, Outage, Slowdown
from gptflow.mock.part import ScenarioPart
from gptflow.mock.rule import FailureRule
from gptflow.mock.scenario import KeyRule, ReplyRule, Scenario
from gptflow.spec.node import ListNode, MapNode, Node, Sheet, Span, data_of
from gptflow.spec.problems import Problem, did_you_mean, in_order
from gptflow.spec.yaml12 import read_yaml

_GUIDE = "docs/mock.md shows all that a scenario may say"
_MAX_BYTES = 1_000_000
_PARTS: dict[str, type[ScenarioPart]] = {
    "latency": Latency,
    "reply": ReplyRule,
    "failures": FailureRule,
    "keys": KeyRule,
    "concurrency": Concurrency,
    "slowdown": Slowdown,
    "outages": Outage,
    "batch": BatchRules,
}
_BATCH_PARTS: dict[str, type[ScenarioPart]] = {
    "latency": Latency,
    "ends": BatchEnd,
    "lines": FailureRule,
    "requests": FailureRule,
}


def read_scenario(path: Path) -> Scenario:
    """The scenario in a file, its `log` path resolved. ConfigError lists all that is wrong."""
    sheet = Sheet(str(path), _text(path))
    node, problems = read_yaml(sheet)
    if problems:
        raise _error(problems)
    if node is None:  # an empty file: all defaults
        return Scenario()
    try:
        scenario = Scenario.model_validate(data_of(node))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise _error([_problem(node, detail) for detail in found]) from None
    if scenario.log is None:
        return scenario
    return scenario.model_copy(update={"log": path.parent / scenario.log})


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ConfigError(f"{path}: {reason}", hint=_GUIDE) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_BYTES:,} bytes: not a scenario", hint=_GUIDE)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start:,} is not UTF-8", hint=_GUIDE) from None


def _error(problems: list[Problem]) -> ConfigError:
    return ConfigError("\n\n".join(problem.render() for problem in in_order(problems)), hint=_GUIDE)


def _problem(root: Node, detail: Any) -> Problem:
    """One finding of pydantic, at its place in the file."""
    is_unknown_key = detail["type"] == "extra_forbidden"
    span = _span(root, detail["loc"], key=is_unknown_key)
    if is_unknown_key:
        close = did_you_mean(str(detail["loc"][-1]), _names(detail["loc"][:-1]))
        hint = f"did you mean '{close}'?" if close else None
        return Problem(f"unknown key '{detail['loc'][-1]}'", span.place(), hint)
    message, _, hint = detail["msg"].removeprefix("Value error, ").partition("; ")
    return Problem(message[0].lower() + message[1:], span.place(), hint or None)


def _span(node: Node, loc: tuple[str | int, ...], *, key: bool) -> Span:
    """Where `loc` stands. The short forms of the language lack parts of it: these are skipped."""
    span = node.span
    for place, part in enumerate(loc):
        if isinstance(node, MapNode):
            following = loc[place + 1] if place + 1 < len(loc) else None
            name = _entry_name(node, part, following)
            if name is None:
                continue
            entry = node.entries[name]
            node = entry.node
            span = entry.key if key and place == len(loc) - 1 else node.span
        elif isinstance(node, ListNode) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            span = node.span
    return span


def _entry_name(node: MapNode, part: str | int, following: str | int | None) -> str | None:
    """The key that `part` of a location means. A number means an entry of a short form."""
    if isinstance(part, str):
        return part if part in node.entries else None
    if following in node.entries or part >= len(node.entries):
        return None  # a single rule that stands for a list of one
    return list(node.entries)[part]


def _names(loc: tuple[str | int, ...]) -> Iterable[str]:
    """The keys that the part of a scenario at `loc` may have."""
    if not loc:
        return Scenario.model_fields
    if loc[0] == "batch" and len(loc) > 1:
        return _BATCH_PARTS[str(loc[1])].model_fields
    return _PARTS[str(loc[0])].model_fields
