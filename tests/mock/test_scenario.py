from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gptflow.mock.duration import go_duration, seconds
from gptflow.mock.rule import FailureRule
from gptflow.mock.scenario import Scenario


def _read(**scenario: Any) -> Scenario:
    return Scenario.model_validate(scenario)


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [("50ms", 0.05), ("1.5s", 1.5), ("2m", 120), ("1h", 3600), (" 3 s ", 3)],
)
def test_durations_are_read(text: str, expected_s: float) -> None:
    assert seconds(text) == pytest.approx(expected_s)


@pytest.mark.parametrize("text", ["", "5", "ms", "-1s", "1d", "1s2m", "5 0ms"])
def test_other_texts_are_not_durations(text: str) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        seconds(text)


@pytest.mark.parametrize(
    ("wait_s", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (0.0001, "1ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (3723.25, "1h2m3.25s"),
    ],
)
def test_durations_are_written_as_go_does(wait_s: float, text: str) -> None:
    assert go_duration(wait_s) == text


def test_failures_may_be_shares_by_name_or_rules() -> None:
    assert _read(failures={"hang": "2%", "server_500": {"first": 3}}).failures == [
        FailureRule(name="hang", share=0.02),
        FailureRule(name="server_500", first=3),
    ]


def test_a_scenario_is_its_own_valid_input() -> None:
    scenario = _read(latency="1s", reply="echo", failures={"hang": 0.5}, concurrency=3)
    assert Scenario.model_validate(scenario.model_dump()) == scenario


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": {"uniform": [1]}},
        {"latency": {"median": "1s", "p95": "0.5s"}},
        {"latency": {"fixed": 1, "median": 1, "p95": 2}},
        {"latency": -1},
        {"reply": {"text": "a", "one_of": ["b"]}},
        {"reply": {"match": "x"}},
        {"reply": []},
        {"failures": {"hang": "2"}},
        {"failures": {"hang": "-2%"}},
        {"keys": {"sk-one": {"failure": "nothing"}}},
        {"keys": {"sk-one": {"rpm": 10, "burst": 0}}},
        {"unknown_keys": "maybe"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _read(**wrong)


def test_a_scenario_does_not_show_its_keys() -> None:
    scenario = _read(
        keys={"sk-secret": {"rpm": 1}}, failures=[{"name": "hang", "key": "sk-secret"}]
    )
    assert "sk-secret" not in repr(scenario)
