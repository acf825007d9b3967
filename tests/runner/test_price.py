from __future__ import annotations

from gptflow.runner.price import cost_usd
from gptflow.runner.tally import TokenCount


def test_nothing_costs_nothing() -> None:
    assert cost_usd({}) == 0.0


def test_the_price_is_the_sum_over_the_models() -> None:
    million = TokenCount(prompt=1_000_000)
    mini, both = (
        cost_usd(dict.fromkeys(names, million))
        for names in (["gpt-4o-mini"], ["gpt-4o-mini", "gpt-4o"])
    )
    assert mini is not None
    assert both is not None
    assert 0 < mini < both


def test_tokens_out_of_the_providers_cache_are_cheaper() -> None:
    full = cost_usd({"gpt-4o-mini": TokenCount(prompt=1000)})
    cached = cost_usd({"gpt-4o-mini": TokenCount(prompt=1000, cached=1000)})
    assert full is not None
    assert cached is not None
    assert cached < full


def test_a_model_that_the_list_does_not_know_leaves_the_price_open() -> None:
    tokens = {"gpt-4o-mini": TokenCount(1, 1), "no-such-model-anywhere": TokenCount(1, 1)}
    assert cost_usd(tokens) is None


def test_counts_that_have_no_price_leave_it_open() -> None:
    assert cost_usd({"gpt-4o-mini": TokenCount(prompt=1, cached=2)}) is None
    assert cost_usd({"gpt-4o-mini": TokenCount(completion=-1)}) is None
