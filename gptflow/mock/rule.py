"""A rule of a scenario by which requests fail."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field

from gptflow.mock.part import Duration, FailureName, ScenarioPart, Share


class FailureRule(ScenarioPart):
    """Which requests fail, and how. All conditions that are given must hold."""

    name: FailureName = Field(description="The failure, by its name in the catalogue.")
    match: re.Pattern[str] | None = Field(
        default=None,
        description="Only requests whose last user message contains this regular expression.",
    )
    key: str | None = Field(
        default=None, description="Only requests with this API key.", repr=False
    )
    after: int = Field(default=0, ge=0, description="Spare the first so many of these requests.")
    first: int | None = Field(
        default=None, ge=1, description="Then fail only so many of them, not all."
    )
    attempts: int | None = Field(
        default=None,
        ge=1,
        description="Fail only the first so many attempts of each distinct request.",
    )
    at: Duration | None = Field(
        default=None, description="Only from this moment on, counted from the first request."
    )
    lasts: Duration | None = Field(
        default=None, gt=0, description="Only for so long: after `at`, or from the first request."
    )
    share: Share = Field(
        default=1.0, description="Fail this share of what is left, as the seed decides."
    )
    retry_after: Duration | None = Field(
        default=None, description="The wait that the failure names, for those that name one."
    )


def rules_by_name(value: object, name: str) -> object:
    """A list of rules from its short form: a mapping of names to shares, or to the rest of rules.

    `name`: what the name is called in the rule. Anything but a mapping comes back as it is.
    """
    if not isinstance(value, Mapping):
        return value
    return [
        {name: key, **(dict(rest) if isinstance(rest, Mapping) else {"share": rest})}
        for key, rest in value.items()
    ]
