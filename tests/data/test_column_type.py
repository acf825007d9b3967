from __future__ import annotations

from functools import reduce
from itertools import product
from operator import or_
from typing import Any

import pytest

from gptflow.data.sinks.column_type import Kinds, Values, type_of


def type_for(*texts: str) -> str:
    return type_of(Values.of([text.encode() for text in texts]).kinds)


@pytest.mark.parametrize(
    ("texts", "type_"),
    [
        ([], "string"),
        (["null"], "string"),
        (['"x"', "null"], "string"),
        (['"1"', '"2"'], "string"),
        ([r'"x\ud800"'], "string"),
        (["true", "false"], "bool"),
        (["1", "-1", "null"], "int64"),
        (["9223372036854775807", "-9223372036854775808"], "int64"),
        (["9223372036854775808"], "json"),
        (["-9223372036854775809"], "json"),
        (["9" * 400], "json"),
        (["1.5", "1e5", "1.10"], "double"),
        (["1", "2.5"], "double"),
        (["9007199254740992", "0.5"], "double"),
        (["9007199254740993", "0.5"], "json"),
        (["0.1234567890123456789"], "json"),
        (["1e-400"], "json"),
        (['"x"', "1"], "json"),
        (["true", "1"], "json"),
        (["true", '"true"'], "json"),
        (["{}"], "json"),
        (["[]"], "list<string>"),
        (['["x", null]', "null", "[]"], "list<string>"),
        (["[1]", "[2.5]"], "list<double>"),
        (["[true]"], "list<bool>"),
        (["[[1]]"], "json"),
        (["[{}]"], "json"),
        (['["x", 1]'], "json"),
        (["[0.1234567890123456789]"], "json"),
        ([r'["\ud800"]'], "json"),
        (["[1]", "1"], "json"),
    ],
)
def test_the_narrowest_type_that_holds_all(texts: list[str], type_: str) -> None:
    assert type_for(*texts) == type_


def test_half_a_surrogate_pair_stays_its_escape_in_a_text() -> None:
    assert Values.of([rb'"x\ud800"', b'"y"']).decoded == [r"x\ud800", "y"]


def test_a_type_that_was_left_never_comes_back() -> None:
    simple = list(Kinds)[:7]
    kinds = [reduce(or_, chosen) for chosen in product(simple, repeat=3)]
    order: dict[str, Any] = {}
    for before, after in product(kinds, simple):
        order.setdefault(type_of(before), set()).add(type_of(before | after))

    assert all(
        narrow == wide or narrow not in order[wide] for narrow in order for wide in order[narrow]
    )
