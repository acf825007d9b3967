from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.pipeline.extract.invalid import BadExtractor, Invalid
from gptflow.pipeline.extract.json_path import parse_path, planted, value_at

REPLY = {
    "a": {"b": 1},
    "items": [{"name": "x"}, {"name": "y"}],
    "odd key": 2,
    "标签": 3,
    "q'": [4],
    "grid": [[1, 2], [3]],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", REPLY),
        ("a.b", 1),
        ("$.a.b", 1),
        ("items[0].name", "x"),
        ("items[-1].name", "y"),
        ("items[*].name", ["x", "y"]),
        ("items[*]", [{"name": "x"}, {"name": "y"}]),
        ("grid[*][*]", [1, 2, 3]),
        ('["odd key"]', 2),
        ("$['a'].b", 1),
        ("标签", 3),
        ('["q\'"][0]', 4),
        (" a.b ", 1),
    ],
)
def test_a_path_leads_to_its_value(path: str, value: object) -> None:
    assert value_at(REPLY, parse_path(path)) == value


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("label", f'there is no key "label" in the JSON value: its keys are {", ".join(REPLY)}'),
        ("a.c", 'there is no key "c" in a: its keys are b'),
        ("items[2]", "there is no element 2 in items, which has 2"),
        ("items[-3]", "there is no element -3 in items, which has 2"),
        ("items.name", 'items is a list, expected an object with the key "name"'),
        ("a[0]", "a is an object, expected a list"),
        ("a.b.c", 'a.b is a number, expected an object with the key "c"'),
        ("a[*]", "a is an object, expected a list"),
    ],
)
def test_what_is_not_there_is_named(path: str, complaint: str) -> None:
    with pytest.raises(Invalid) as refusal:
        value_at(REPLY, parse_path(path))
    assert str(refusal.value) == complaint


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        ("", 0),
        ("a..b", 1),
        ("a.", 1),
        (".a", 0),
        ("a[", 1),
        ("a[x]", 1),
        ("a b", 1),
        ("a[0]b", 4),
        ("$a", 1),
    ],
)
def test_a_path_that_cannot_be_read_says_where(path: str, offset: int) -> None:
    with pytest.raises(BadExtractor) as refusal:
        parse_path(path)
    assert (refusal.value.key, refusal.value.offset) == ("json", offset)


@given(st.lists(st.text(min_size=1) | st.integers(0, 3), min_size=1, max_size=4))
def test_any_key_can_be_written_in_quotes(parts: list[str | int]) -> None:
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f'["{escaped(part)}"]' for part in parts
    )
    assert parse_path(path) == tuple(parts)
    assert value_at(planted(None, tuple(parts), "x"), tuple(parts)) == "x"


@given(st.text(max_size=30))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        parts = parse_path(text)
    except BadExtractor:
        return
    assert parse_path(text.strip()) == parts


def escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace('"', '\\"')
