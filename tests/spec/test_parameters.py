from __future__ import annotations

from collections.abc import Callable

import pytest

from gptflow.spec.model import Spec
from gptflow.spec.parameters import HINTS, SET_BY_GPTFLOW, api_parameters
from gptflow.spec.problems import Problem

Problems = Callable[..., list[Problem]]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("max_token: 5", "the API has no parameter 'max_token'", "did you mean 'max_tokens'?"),
        ("engine: m", "no parameter 'engine'", "the model's name is `name`"),
        ("api_key: sk", "no parameter 'api_key'", "config.json alone"),
        ("base_url: http://x", "no parameter 'base_url'", "config.json alone"),
        ("timeout: 5", "no parameter 'timeout'", "under `limits`"),
        ("n: 3", "no parameter 'n'", "a call has one reply"),
        ("stream: true", "no parameter 'stream'", "replies are read whole"),
        ("repetition_penalty: 1", "no parameter", "model.extra_body passes anything else"),
        ("qqq: 1", "no parameter 'qqq'", "model.extra_body passes anything else"),
        ("temperature: hot", "expected a number from 0 to 2, found 'hot'", "temperature: "),
        ("temperature: 3", "from 0 to 2, found the number 3", "temperature: "),
        ("temperature: true", "from 0 to 2, found true", "temperature: "),
        ("temperature: .nan", "from 0 to 2, found the number nan", "temperature: "),
        ("max_tokens: 1.5", "expected a whole number, found the number 1.5", "max_tokens: "),
        ("logprobs: yes", "expected true or false, found 'yes'", "logprobs: "),
        ("stop: 5", "expected text or a list, found the number 5", "stop: "),
        ("stop: [a, 5]", "expected text or a list, found a list", "stop: "),
        ("logit_bias: {a: b}", "expected a mapping, found a mapping", "logit_bias: "),
        ("verbosity: loud", "expected 'low', 'medium' or 'high', found 'loud'", "verbosity: "),
        ("response_format: json", "expected a mapping, found 'json'", "response_format: "),
    ],
)
def test_a_wrong_parameter_is_told(
    line: str, message: str, hint: str, problems: Problems, minimal: str
) -> None:
    (problem,) = problems(minimal.replace("{name: gpt-4o-mini}", f"\n  name: m\n  {line}"))
    assert message in problem.message
    assert hint in (problem.hint or "")
    assert problem.place.line == 5


def test_the_parameters_of_a_step_are_checked_too(problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal + "    model: {top_pp: 1}\n")
    assert (problem.place.line, problem.place.column) == (7, 13)
    assert "did you mean 'top_p'?" in (problem.hint or "")


def test_right_parameters_and_whatever_is_in_extra_body_pass(
    load: Callable[..., Spec], minimal: str
) -> None:
    model = "{name: m, temperature: 0, stop: [a], seed: null, extra_body: {top_k: 4}}"
    spec = load(minimal.replace("{name: gpt-4o-mini}", model))
    assert spec.model.params == {"temperature": 0, "stop": ["a"], "seed": None, "top_k": 4}


def test_a_steps_model_is_laid_over_the_specs(load: Callable[..., Spec], minimal: str) -> None:
    text = minimal.replace("mini}", "mini, seed: 1, extra_body: {a: 1}}")
    spec = load(text + "    model: {temperature: 1, extra_body: {b: 2}}\n")
    merged = spec.model.merged(spec.steps[0].model)
    assert merged.name == "gpt-4o-mini"
    assert merged.params == {"seed": 1, "temperature": 1, "a": 1, "b": 2}


def test_no_parameter_is_both_offered_and_refused() -> None:
    assert not api_parameters().keys() & (HINTS.keys() | set(SET_BY_GPTFLOW))
    assert set(SET_BY_GPTFLOW) <= HINTS.keys()


def test_every_parameter_says_what_it_is() -> None:
    assert all(len(fragment["description"]) > 20 for fragment in api_parameters().values())
