"""What tokens cost, by the price list of genai-prices. Asked on a timer, never per row."""

from __future__ import annotations

from collections.abc import Mapping

from gptflow.runner.tally import TokenCount


def cost_usd(tokens: Mapping[str, TokenCount]) -> float | None:
    """The price of the tokens, in US dollars; None where a model has no known price.

    Importing genai-prices takes a quarter of a second, so it is done when a price is first asked.
    """
    if not tokens:
        return 0.0
    from genai_prices import Usage, calc_price

    total = 0.0
    for model, count in tokens.items():
        try:
            usage = Usage(
                input_tokens=count.prompt,
                output_tokens=count.completion,
                cache_read_tokens=count.cached,
            )
            total += float(calc_price(usage, model_ref=model).total_price)
        except (LookupError, ValueError):  # an unknown model; counts that cannot be true
            return None
    return total
