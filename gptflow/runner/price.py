"""What tokens cost: as the spec says, else by the price list of genai-prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gptflow.errors import RunStopped
from gptflow.runner.tally import Tally, TokenCount
from gptflow.spec.limits import PriceSpec
from gptflow.spec.model import Spec
from gptflow.spec.problems import Problem

BATCH_SHARE = 0.5
"""Of the price of a call, what it costs in a batch: https://platform.openai.com/docs/guides/batch."""

_MILLION = 1_000_000
_PROBE_TOKENS = 1_000
"""So few that no provider's price for long prompts is met."""


class Price(NamedTuple):
    """What a model costs, in US dollars a token."""

    input_usd: float
    output_usd: float
    cached_usd: float
    """Of a prompt's token that was in the provider's cache."""

    @classmethod
    def told(cls, price: PriceSpec) -> Price:
        """The price that a spec tells."""
        cached = price.input if price.cached_input is None else price.cached_input
        return cls(price.input / _MILLION, price.output / _MILLION, cached / _MILLION)

    def times(self, share: float) -> Price:
        """A share of the price."""
        return Price(self.input_usd * share, self.output_usd * share, self.cached_usd * share)

    def prompt_usd(self, count: TokenCount) -> float:
        """What prompts cost."""
        return (count.prompt - count.cached) * self.input_usd + count.cached * self.cached_usd

    def usd(self, count: TokenCount) -> float:
        """What prompts and replies cost."""
        return self.prompt_usd(count) + count.completion * self.output_usd


class Prices:
    """The prices of models. Each is looked up once."""

    def __init__(self, told: Mapping[str, PriceSpec] | None = None, *, share: float = 1.0) -> None:
        """Build a list of prices.

        Args:
            told: prices by model, which win over those of genai-prices.
            share: of all these, what is paid.
        """
        self.share = share
        self._prices: dict[str, Price | None] = {
            model: Price.told(price).times(share) for model, price in (told or {}).items()
        }

    @classmethod
    def of_spec(cls, spec: Spec) -> Prices:
        """What calls cost in the mode of a spec."""
        is_batch = spec.parallelism.mode == "batch"
        return cls(spec.limits.prices, share=BATCH_SHARE if is_batch else 1.0)

    def of(self, model: str) -> Price | None:
        """What a model costs; None where nobody knows."""
        if model not in self._prices:
            listed = _listed(model)
            self._prices[model] = listed and listed.times(self.share)
        return self._prices[model]

    def of_tally(self, tally: Tally) -> float | None:
        """What a run's calls cost, in US dollars; None where a model has no known price."""
        full_usd, batched_usd = self.cost_usd(tally.tokens), self.cost_usd(tally.batched)
        if full_usd is None or batched_usd is None:
            return None
        return full_usd - batched_usd * (1 - BATCH_SHARE)

    def cost_usd(self, tokens: Mapping[str, TokenCount]) -> float | None:
        """The price of tokens, by model, in US dollars; None where a model has no known price."""
        total = 0.0
        for model, count in tokens.items():
            price = self.of(model)
            if price is None:
                return None
            total += price.usd(count)
        return total


class PricesOfCalls(dict[str, Price]):
    """The prices of the models that are asked, for a run that may cost only so much.

    A function of the user's may ask another one than the spec names: that is looked up by then.
    """

    def __init__(self, prices: Prices, models: Iterable[str]) -> None:
        super().__init__((model, price) for model in models if (price := prices.of(model)))
        self._known = prices

    def __missing__(self, model: str) -> Price:
        """The price of another model.

        Raises:
            RunStopped: nobody knows it, so that the limit cannot be kept.
        """
        price = self._known.of(model)
        if price is None:
            raise RunStopped(_unknown(model), hint=_price_hint(model))
        self[model] = price
        return price


def unpriced(spec: Spec, prices: Prices) -> list[Problem]:
    """The models of a spec with `limits.cost_usd` that have no known price, each told once."""
    if spec.limits.cost_usd is None:
        return []
    return [
        Problem(_unknown(model), spec.origin.place(path), _price_hint(model))
        for model, path in _named_models(spec)
        if prices.of(model) is None
    ]


def _unknown(model: str) -> str:
    return f"limits.cost_usd needs the price of '{model}', which is not known"


def _price_hint(model: str) -> str:
    example = f"{{{model}: {{input: 0.15, output: 0.6}}}}"
    return f"tell it in USD per million tokens: limits.prices: {example}"


def _named_models(spec: Spec) -> Iterable[tuple[str, tuple[str | int, ...]]]:
    """The models of the steps with the place of each name, the first where it stands twice."""
    named: dict[str, tuple[str | int, ...]] = {}
    for index, step in enumerate(spec.steps):
        if step.model is not None and step.model.name:
            named.setdefault(step.model.name, ("steps", index, "model", "name"))
        elif spec.model.name:
            named.setdefault(spec.model.name, ("model", "name"))
    return named.items()


def _listed(model: str) -> Price | None:
    """The price in genai-prices' list.

    Importing that takes a quarter of a second, so it is done when a price is first asked for.
    """
    from genai_prices import Usage as Counts
    from genai_prices import calc_price

    def price_usd(counts: Counts) -> float:
        return float(calc_price(counts, model_ref=model).total_price) / _PROBE_TOKENS

    try:
        return Price(
            price_usd(Counts(input_tokens=_PROBE_TOKENS)),
            price_usd(Counts(output_tokens=_PROBE_TOKENS)),
            price_usd(Counts(input_tokens=_PROBE_TOKENS, cache_read_tokens=_PROBE_TOKENS)),
        )
    except (LookupError, ValueError):  # an unknown model; a price that cannot be told by tokens
        return None
