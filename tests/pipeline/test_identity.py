from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.pipeline.identity import CallIdentity, digest_of, is_deterministic
from gptflow.records import Row

MESSAGES = [{"role": "user", "content": "hello"}]
SAME_EVERY_TIME = {"temperature": 0}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc é🙂"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz"), inner, max_size=3),
)


def row(number: int, ordinal: int = 0) -> Row:
    return Row(number, number, bytes([number]) * 16, ordinal, b"{}", {})


def identity(**changes: Any) -> CallIdentity:
    given_values: dict[str, Any] = {
        "endpoint": "chat/completions",
        "model": "m",
        "params": SAME_EVERY_TIME,
        "step": "label",
    }
    return CallIdentity(**(given_values | changes))


def test_a_deterministic_call_has_the_same_key_for_every_row_and_step() -> None:
    keys = {identity(step=step).key(MESSAGES, row(n)) for step in "ab" for n in range(3)}
    assert len(keys) == 1


@pytest.mark.parametrize("params", [{}, {"temperature": 1}, {"temperature": 0.1, "top_p": 1}])
def test_a_call_that_may_vary_has_a_key_of_its_own_for_each_row(params: dict[str, Any]) -> None:
    maker = identity(params=params)
    keys = {maker.key(MESSAGES, r) for r in (row(1), row(2), row(2, ordinal=1))}
    assert len(keys) == 3
    assert maker.key(MESSAGES, row(1)) in keys


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "n"},
        {"params": {"temperature": 0, "seed": 1}},
        {"endpoint": "x"},
        {"server": "mock"},
    ],
)
def test_another_question_has_another_key(changes: dict[str, Any]) -> None:
    assert identity(**changes).key(MESSAGES, row(1)) != identity().key(MESSAGES, row(1))


def test_other_messages_have_another_key() -> None:
    other = [*MESSAGES, {"role": "assistant", "content": "hi"}]
    assert identity().key(other, row(1)) != identity().key(MESSAGES, row(1))


@pytest.mark.parametrize(
    ("params", "expected"),
    [({"temperature": 0}, True), ({"temperature": 0.0}, True), ({"seed": 0}, True), ({}, False)],
)
def test_temperature_0_or_a_seed_makes_a_call_deterministic(
    params: dict[str, Any], expected: bool
) -> None:
    assert is_deterministic(params) is expected


objects = st.dictionaries(st.text("abcd"), json_values, min_size=2)


def reversed_members(value: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(value.items()))


@given(objects)
def test_the_order_of_members_is_part_of_a_digest(value: dict[str, Any]) -> None:
    assert digest_of(reversed_members(value)) != digest_of(value)
    assert digest_of(dict(value)) == digest_of(value)


@given(objects)
def test_the_order_of_parameters_leaves_the_call_key(params: dict[str, Any]) -> None:
    turned = identity(params=reversed_members(params))
    assert turned.key(MESSAGES, row(1)) == identity(params=params).key(MESSAGES, row(1))


@given(objects)
def test_the_order_inside_a_parameter_is_part_of_the_call_key(schema: dict[str, Any]) -> None:
    turned = identity(params={"response_format": reversed_members(schema)})
    asked = identity(params={"response_format": schema})
    assert turned.key(MESSAGES, row(1)) != asked.key(MESSAGES, row(1))
