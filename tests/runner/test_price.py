from __future__ import annotations

import pytest

from gptflow.errors import SpecError
from gptflow.runner.price import Prices
from gptflow.runner.tally import TokenCount
from gptflow.spec.limits import PriceSpec
from tests.runner.conftest import SPEC, Folder

MINE = {"my-model": PriceSpec(input=2, output=8, cached_input=0.5)}


def test_nothing_costs_nothing() -> None:
    assert Prices().cost_usd({}) == 0.0


def test_the_price_is_the_sum_over_the_models() -> None:
    million = TokenCount(prompt=1_000_000)
    mini, both = (
        Prices().cost_usd(dict.fromkeys(names, million))
        for names in (["gpt-4o-mini"], ["gpt-4o-mini", "gpt-4o"])
    )
    assert mini is not None
    assert both is not None
    assert 0 < mini < both


def test_tokens_out_of_the_providers_cache_are_cheaper() -> None:
    full = Prices().cost_usd({"gpt-4o-mini": TokenCount(prompt=1000)})
    cached = Prices().cost_usd({"gpt-4o-mini": TokenCount(prompt=1000, cached=1000)})
    assert full is not None
    assert cached is not None
    assert cached < full


def test_many_short_prompts_do_not_cost_what_one_long_one_does() -> None:
    a_thousand, a_million = (
        Prices().cost_usd({"gemini-2.5-pro": TokenCount(prompt=tokens)})
        for tokens in (1_000, 1_000_000)
    )
    assert a_thousand is not None
    assert a_million == pytest.approx(1000 * a_thousand)


def test_a_model_that_the_list_does_not_know_leaves_the_price_open() -> None:
    tokens = {"gpt-4o-mini": TokenCount(1, 1), "no-such-model-anywhere": TokenCount(1, 1)}
    assert Prices().cost_usd(tokens) is None


def test_a_price_that_the_spec_tells_wins() -> None:
    counts = TokenCount(prompt=1_000_000, completion=1_000_000, cached=500_000)
    assert Prices(MINE).cost_usd({"my-model": counts}) == pytest.approx(1 + 0.25 + 8)
    told = {"gpt-4o": PriceSpec(input=1, output=0)}
    assert Prices(told).cost_usd({"gpt-4o": counts}) == pytest.approx(1)


# ------------------------------------------------------------------ limits.cost_usd needs prices


def test_each_model_without_a_price_is_told_at_its_name(folder: Folder) -> None:
    spec = SPEC.replace("gpt-4o-mini", "tiny-one").replace(
        "    when:", "    model: {name: tiny-two}\n    when:"
    )
    folder.prepare(spec)
    with pytest.raises(SpecError) as raised:
        folder.prepare(spec + "limits: {cost_usd: 1}\n")
    first, second = raised.value.problems
    assert str(first.place) == "spec.yaml:4:15"
    assert first.message == "limits.cost_usd needs the price of 'tiny-one', which is not known"
    assert "limits.prices: {tiny-one: {input: 0.15, output: 0.6}}" in (first.hint or "")
    assert str(second.place) == "spec.yaml:10:19"


def test_a_model_with_a_told_price_may_have_any_name(folder: Folder) -> None:
    limits = "limits: {cost_usd: 1, prices: {tiny: {input: 0, output: 0.1}}}\n"
    folder.prepare(SPEC.replace("gpt-4o-mini", "tiny") + limits)


@pytest.mark.parametrize(
    ("price", "message", "hint"),
    [
        ("{input: 1}", "the key 'output' is missing", "add a line such as `output: 0.6`"),
        ("{input: 1, output: -1}", "expected a number of at least 0", "Of the reply."),
        ("{input: 1, outptu: 1}", "unknown key 'outptu'", "did you mean 'output'?"),
        ("0.15", "expected a mapping, found the number 0.15", "it needs input and output"),
    ],
)
def test_a_wrong_price_is_told(price: str, message: str, hint: str, folder: Folder) -> None:
    limits = f"limits: {{cost_usd: 1, prices: {{gpt-4o-mini: {price}}}}}\n"
    with pytest.raises(SpecError) as raised:
        folder.prepare(SPEC + limits)
    (problem,) = raised.value.problems
    assert message in problem.message
    assert hint in (problem.hint or "")
