"""The language of a scenario: how the simulated server answers, waits, limits and fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from jinja2 import Environment, TemplateSyntaxError
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.meta import find_undeclared_variables
from pydantic import BeforeValidator, Field, field_validator, model_validator

from gptflow.mock.batch.rules import BatchRules
from gptflow.mock.dialect import Dialect, Places
from gptflow.mock.pace import Concurrency, Latency, Outage, Slowdown
from gptflow.mock.part import Duration, FailureName, ScenarioPart, require_one
from gptflow.mock.rule import FailureRule, rules_by_name
from gptflow.spec.problems import did_you_mean

TEMPLATE_NAMES = {"user", "system", "messages", "model", "turn", "match", "hash"}
"""What the template of a reply may name."""


def _as_template(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        names = find_undeclared_variables(Environment(autoescape=False).parse(value))  # noqa: S701 - replies are no HTML
    except TemplateSyntaxError as error:
        raise ValueError(f"no valid template: {error.message}") from None
    for name in sorted(names - TEMPLATE_NAMES - DEFAULT_NAMESPACE.keys()):
        close = did_you_mean(name, TEMPLATE_NAMES) or ", ".join(sorted(TEMPLATE_NAMES))
        raise ValueError(f"no variable of a template is named '{name}'; there is {close}")
    return value


class ReplyRule(ScenarioPart):
    """What to reply, and to which requests."""

    match: re.Pattern[str] | None = Field(
        default=None,
        description="A regular expression that the last user message has to contain.",
    )
    echo: Literal[True] | None = Field(
        default=None, description="The last user message. `echo` alone is short for this."
    )
    text: str | None = Field(default=None, description="This text.")
    template: Annotated[str, BeforeValidator(_as_template)] | None = Field(
        default=None,
        description="A Jinja template, which sees user, system, messages, model, turn, match "
        "(the groups of `match`, the whole at 0) and hash (a number that only the request "
        "decides).",
    )
    one_of: list[str] | None = Field(
        default=None, min_length=1, description="One of these, which one the request decides."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_echo(cls, value: object) -> object:
        return {"echo": True} if value == "echo" else value

    @model_validator(mode="after")
    def _one_kind(self) -> ReplyRule:
        require_one(self, "echo", "text", "template", "one_of")
        return self


class KeyRule(ScenarioPart):
    """What one API key may do."""

    rpm: int | None = Field(default=None, ge=1, description="Requests per minute.")
    tpm: int | None = Field(default=None, ge=1, description="Tokens per minute.")
    burst: Duration = Field(
        default=60.0,
        gt=0,
        description="The stretch of time whose allowance may be spent at once. 60s, as the real "
        "ones: a full minute's requests in one go.",
    )
    window: Literal["bucket", "fixed"] = Field(
        default="bucket",
        description="bucket: the allowance comes back steadily, as OpenAI's. fixed: it comes back "
        "as a whole, whenever another `burst` seconds are over.",
    )
    headers: Dialect = Field(
        default="openai", description="In whose headers each answer tells what is left."
    )
    wait: Places | None = Field(
        default=None,
        description="Where a refusal names the wait. If not given: in both, but nowhere with "
        "`headers: none`.",
    )
    organization: str | None = Field(
        default=None, description="Keys of one organization share one allowance."
    )
    per: Literal["model", "key"] = Field(
        default="model",
        description="model: each model has an allowance of its own, as with OpenAI. key: all share "
        "one.",
    )
    models: list[str] | None = Field(
        default=None, description="The models that it may use; the others give model_no_access."
    )
    failure: FailureName | None = Field(
        default=None, description="Each request with this key fails like this."
    )
    batch: bool = Field(
        default=True, description="Whether it may use files and batches; if not: a missing scope."
    )


class Scenario(ScenarioPart):
    """A simulated server. The same request gets the same reply, in whatever order they come."""

    seed: int = Field(default=0, description="Another seed draws other failures and latencies.")
    latency: Latency = Field(
        default=Latency(fixed=0.0),
        description="How long a reply takes. Refusals (4xx) come at once.",
    )
    reply: list[ReplyRule] = Field(
        default=[ReplyRule(echo=True)],
        min_length=1,
        description="A rule, or a list of rules, of which the first that matches counts. Where "
        "none does, the last user message is the reply.",
    )
    failures: list[FailureRule] = Field(
        default=[],
        description="A list of rules, of which the first that holds counts; or a mapping of "
        "failure names to shares.",
    )
    keys: dict[str, KeyRule] = Field(
        default={}, repr=False, description="What each API key may do. Others have no limits."
    )
    unknown_keys: Literal["allow", "refuse"] = Field(
        default="allow", description="Whether keys that `keys` does not list are served."
    )
    models: list[str] | None = Field(
        default=None, description="The models there are. Without it any name is one."
    )
    concurrency: Concurrency | None = Field(
        default=None, description="How many requests are served at a time. Without it all are."
    )
    slowdown: Slowdown | None = Field(
        default=None, description="How latency grows with the requests in flight."
    )
    batch: BatchRules = Field(
        default=BatchRules(), description="How batches are served, and how they fail."
    )
    outages: list[Outage] = Field(
        default=[], description="Stretches of time in which connections are refused."
    )
    log: Path | None = Field(
        default=None,
        description="A file that gets one JSON line per request. Relative to the scenario file.",
    )

    @field_validator("reply", mode="before")
    @classmethod
    def _one_rule(cls, value: object) -> object:
        return value if isinstance(value, list) else [value]

    @field_validator("failures", mode="before")
    @classmethod
    def _shares_by_name(cls, value: object) -> object:
        return rules_by_name(value, "name")

    @field_validator("keys", mode="before")
    @classmethod
    def _keys_without_rules(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {key: {} if rule is None else rule for key, rule in value.items()}

    @model_validator(mode="after")
    def _one_allowance_for_each_organization(self) -> Scenario:
        seen: dict[str, tuple[Any, ...]] = {}
        for rule in self.keys.values():
            allowance = (rule.rpm, rule.tpm, rule.burst, rule.window, rule.per)
            if rule.organization and seen.setdefault(rule.organization, allowance) != allowance:
                raise ValueError(
                    f"the keys of organization {rule.organization} share one allowance, so they "
                    "need the same rpm, tpm, burst, window and per"
                )
        return self

    @model_validator(mode="after")
    def _something_to_slow_down(self) -> Scenario:
        if self.slowdown and self.latency.fixed == 0:
            raise ValueError("slowdown stretches the latency, and there is none; give `latency`")
        return self

    @model_validator(mode="after")
    def _one_outage_at_a_time(self) -> Scenario:
        ordered = sorted(self.outages, key=lambda outage: outage.at)
        for earlier, later in pairwise(ordered):
            if later.at <= earlier.at + earlier.lasts:
                raise ValueError(
                    f"the outage at {later.at:g} s begins before that at {earlier.at:g} s is over"
                )
        return self
