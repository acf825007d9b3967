"""The part of a scenario that says how batches are served, and how they fail."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gptflow.mock.failure.catalogue import CATALOGUE
from gptflow.mock.pace import Latency
from gptflow.mock.part import Duration, ScenarioPart, Share
from gptflow.mock.rule import FailureRule, rules_by_name

_DAY_S = 86_400.0
_SUCCESSES = range(200, 300)
_NO_ANSWERS = frozenset(
    {
        "error_in_200",
        "html_200",
        "json_null",
        "json_list",
        "json_string",
        "empty_body",
        "no_content_204",
        "truncated_json",
        "truncated_text",
    }
)
"""What is no answer to any request. The others have choices, which only a model's answer has."""


class BatchEnd(ScenarioPart):
    """Which batches end otherwise than completed. All conditions that are given must hold."""

    status: Literal["failed", "expired", "cancelled"] = Field(description="How they end.")
    share: Share = Field(default=1.0, description="Only this share, as the seed decides.")
    after: int = Field(default=0, ge=0, description="Spare the first so many of these batches.")
    first: int | None = Field(default=None, ge=1, description="Then only so many of them.")
    key: str | None = Field(default=None, description="Only batches of this API key.", repr=False)
    answered: Share = Field(
        default=0.5,
        description="The share of its lines that was answered by then. None, if it failed.",
    )
    code: str = Field(
        default="server_error",
        description="What a failed one gives as its error; token_limit_exceeded is one to wait "
        "for.",
    )


class BatchRules(ScenarioPart):
    """How files and batches are served. All has a default: they are served without this part."""

    latency: Latency = Field(
        default=Latency(fixed=0.2),
        description="How long a batch takes, from its creation until it is completed.",
    )
    window: Duration = Field(
        default=_DAY_S, gt=0, description="A batch that takes longer expires then."
    )
    ends: list[BatchEnd] = Field(
        default=[],
        description="Which batches end otherwise: a list of rules, of which the first that holds "
        "counts; or a mapping of failed, expired, cancelled to shares.",
    )
    lines: list[FailureRule] = Field(
        default=[],
        description="Which lines fail, beside those of `failures`: in the same forms.",
    )
    requests: list[FailureRule] = Field(
        default=[],
        description="Which requests about files and batches fail. `match` is about the method and "
        "the path, such as `POST /v1/files`. Unless the status says no, the deed is done.",
    )
    enqueued_tokens: int | None = Field(
        default=None,
        ge=1,
        description="So many prompt tokens of one model may wait in an organization's batches.",
    )
    access: bool = Field(default=True, description="Whether any key may use files and batches.")
    refusal: Literal[401, 403] = Field(
        default=401, description="The status for a key that may not: both are seen."
    )
    max_lines: int = Field(default=50_000, ge=1, description="The most lines of a batch.")
    max_bytes: int = Field(default=209_715_200, ge=1, description="The most bytes of a file.")

    @field_validator("lines", "requests", mode="before")
    @classmethod
    def _failures_by_name(cls, value: object) -> object:
        return rules_by_name(value, "name")

    @field_validator("ends", mode="before")
    @classmethod
    def _ends_by_status(cls, value: object) -> object:
        return rules_by_name(value, "status")

    @field_validator("requests", mode="after")
    @classmethod
    def _no_wrong_answers(cls, rules: list[FailureRule]) -> list[FailureRule]:
        for rule in rules:
            failure = CATALOGUE[rule.name]
            is_answer = failure.status in _SUCCESSES and failure.cut is None
            if is_answer and rule.name not in _NO_ANSWERS:
                raise ValueError(
                    f"'{rule.name}' is a wrong answer of a model, which a request about files or "
                    "batches does not get; use it in `lines`"
                )
        return rules
