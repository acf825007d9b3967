"""What all parts of a scenario are made of: durations, shares, names of failures."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gptflow.mock.duration import seconds
from gptflow.mock.failure.catalogue import CATALOGUE
from gptflow.spec.problems import did_you_mean


def _as_seconds(value: object) -> object:
    return seconds(value) if isinstance(value, str) else value


def _as_fraction(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"\d+(\.\d+)? ?%", value.strip()):
        raise ValueError("a share is a percentage such as 2%, or a number from 0 to 1")
    return float(value.strip().removesuffix("%")) / 100


def _as_failure(value: object) -> object:
    if isinstance(value, str) and value not in CATALOGUE:
        close = did_you_mean(value, CATALOGUE)
        hint = f"did you mean '{close}'?" if close else "gptflow mock --list shows all"
        raise ValueError(f"no failure is named '{value}'; {hint}")
    return value


Duration = Annotated[float, BeforeValidator(_as_seconds), Field(ge=0, allow_inf_nan=False)]
"""Seconds; written as a number, or as 50ms, 1.5s, 2m, 1h."""

Share = Annotated[float, BeforeValidator(_as_fraction), Field(ge=0, le=1)]
"""A part of the whole; written as 2% or 0.02."""

FailureName = Annotated[str, BeforeValidator(_as_failure)]
"""A name of the catalogue."""


class ScenarioPart(BaseModel):
    """What all parts share: frozen, and no key that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def require_one(part: ScenarioPart, *names: str) -> None:
    """ValueError unless exactly one of these is given."""
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise ValueError(f"give exactly one of {', '.join(names)}; found {found}")
