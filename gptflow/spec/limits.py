"""The part of the language that says what calls and runs may take."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from gptflow.spec.part import SpecModel

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")
_SPACED = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|percent|per cent)", re.IGNORECASE)


class PriceSpec(SpecModel):
    """What a model costs, in US dollars per million tokens."""

    input: float = Field(ge=0, description="Of the prompt.", examples=[0.15])
    output: float = Field(ge=0, description="Of the reply.", examples=[0.6])
    cached_input: float | None = Field(
        default=None,
        ge=0,
        description="Of what the provider had of the prompt in its cache; without it as `input`.",
    )


ModelName = Annotated[str, Field(pattern=".", description="A model, as the server names it.")]


class LimitsSpec(SpecModel):
    """What a call may take before it is given up, and a run before it stops.

    A run that reaches its limit begins no further row, brings those in flight to their end and
    stops with exit code 3; the same command goes on from there.
    """

    timeout_s: float = Field(
        default=120,
        gt=0,
        le=86_400,
        description="Seconds that one attempt of a call may take in all.",
    )
    attempts: int = Field(default=8, ge=1, description="Attempts of one call before its row fails.")
    key_wait_s: float | None = Field(
        default=None,
        ge=0,
        description="Seconds that a run waits for a usable key when config.json has none left, "
        "before it stops; without it as long as it takes, 0 for not at all.",
    )
    outage_s: float = Field(
        default=3600,
        gt=0,
        description="Seconds that a run waits while no server answers, before it stops.",
    )
    wall_s: float | None = Field(
        default=None,
        gt=0,
        le=31_536_000,
        description="Seconds that one command may work. Rows in flight are brought to their end "
        "after that, as far as no call has to wait. Time in which the machine sleeps does not "
        "count.",
    )
    failed_rows: (
        Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=f"^{_PERCENT.pattern}$")] | None
    ) = Field(
        default=None,
        description="How many rows of a run may fail: a number, or a share of the rows that have "
        "ended, such as 5%, which counts from 50 rows on. One more stops the run.",
        examples=["5%"],
    )

    cost_usd: float | None = Field(
        default=None,
        ge=0,
        description="US dollars that a run may cost, all commands that work on it together. Each "
        "call is estimated before it is sent, and is not sent if it would cost too much.",
        examples=[5],
    )
    prices: dict[ModelName, PriceSpec] = Field(
        default_factory=dict,
        description="What models cost: for those that genai-prices does not know, or knows "
        "wrongly.",
        examples=[{"my-model": {"input": 0.15, "output": 0.6}}],
    )

    @property
    def failed_percent(self) -> float | None:
        """`failed_rows` in percent of the rows that have ended, where it is a share."""
        return _percent(self.failed_rows) if isinstance(self.failed_rows, str) else None

    @field_validator("failed_rows", mode="before")
    @classmethod
    def _number_or_share(cls, value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if value is None or is_number or (isinstance(value, str) and _percent(value) is not None):
            return value
        wrong = ValueError("failed_rows takes a number of rows, or a share such as 5%")
        hint = _hint(value)
        if hint:
            wrong.add_note(hint)
        raise wrong


def _percent(text: str) -> float | None:
    """The number before the %; None if it is none, or one that no share has."""
    match = _PERCENT.fullmatch(text)
    percent = float(match[1]) if match else None
    return percent if percent is not None and percent <= 100 else None


def _hint(value: object) -> str | None:
    """What was meant, most likely."""
    if isinstance(value, float) and 0 < value < 1:
        return f"write {100 * value:g}%"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "0 has the run stop at the first row that fails"
    text = str(value).strip()
    spaced = _SPACED.fullmatch(text)
    if text.isdecimal():
        return f"write it without quotes: {text}"
    if spaced and float(spaced[1]) <= 100:
        return f"write {spaced[1]}%"
    return "a share is from 0% to 100%" if text.endswith("%") else None
