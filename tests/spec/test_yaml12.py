from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.spec.node import MapNode, Sheet, data_of
from gptflow.spec.problems import Problem
from gptflow.spec.scalar import resolve_plain
from gptflow.spec.yaml12 import MAX_ALIASED_NODES, MAX_DEPTH, read_yaml

printable = st.characters(
    exclude_categories=("Cs", "Cc"),
    include_characters="\t\n\x85\u2028\u2029",
    exclude_characters="\ufffe\uffff",
).filter(lambda char: ord(char) & 0xFFFE != 0xFFFE)
words = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789.:_+-/~é漢😀 ", min_size=1)


def read(text: str) -> Any:
    node, problems = read_yaml(Sheet("f.yaml", text))
    assert problems == []
    return None if node is None else data_of(node)


def problems_in(text: str) -> list[Problem]:
    return read_yaml(Sheet("f.yaml", text))[1]


def only_problem(text: str) -> Problem:
    (problem,) = problems_in(text)
    return problem


def test_labels_keep_their_spelling() -> None:
    assert read("[no, off, 010, 12:30, 2024-05-01, y, 1_000]") == [
        "no",
        "off",
        "010",
        "12:30",
        "2024-05-01",
        "y",
        "1_000",
    ]


def test_keys_are_text_as_they_are_written() -> None:
    assert read("{no: a, 1: b, 0x10: c, true: d, ~: e, 1.0: f, '': g}") == {
        "no": "a",
        "1": "b",
        "0x10": "c",
        "true": "d",
        "~": "e",
        "1.0": "f",
        "": "g",
    }


def test_quotes_and_blocks_are_always_text() -> None:
    assert read("[\"1\", 'true', !!str 2, ! 3]\n") == ["1", "true", "2", "3"]
    assert read("a: |\n  1\nb: >-\n  null\n") == {"a": "1\n", "b": "null"}


def test_a_windows_file_reads_like_any_other() -> None:
    assert read("a: |\r\n  x\r\n  y\r\nb: 1\r\n") == {"a": "x\ny\n", "b": 1}


@given(st.text(printable))
def test_double_quoted_text_reads_as_itself(text: str) -> None:
    assert read(f"a: {json.dumps(text, ensure_ascii=False)}") == {"a": text}


@given(st.text(printable.filter(lambda char: char not in "\t\n ")))
def test_single_quoted_text_reads_as_itself(text: str) -> None:
    assert read("a: '" + text.replace("'", "''") + "'") == {"a": text}


@given(words.filter(lambda text: ": " not in text and text.strip()))
def test_plain_text_reads_as_the_core_schema_says(text: str) -> None:
    plain = "x" + text.strip() if text.strip()[0] in "-:?~" else text.strip()
    if not plain.endswith(":"):
        assert read(f"a: {plain}") == {"a": resolve_plain(plain)}


@given(st.lists(st.text(printable.filter(lambda char: char != "\n")), min_size=1))
def test_a_literal_block_reads_as_its_lines(lines: list[str]) -> None:
    block = "".join(f"  {line}\n" for line in lines)
    assert read(f"a: |2+\n{block}") == {"a": "".join(f"{line}\n" for line in lines)}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(printable),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(printable), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_json_is_yaml(value: Any) -> None:
    assert read(json.dumps(value, ensure_ascii=False)) == value


def test_an_alias_is_a_copy_of_its_own() -> None:
    data = read("a: &x {b: [1]}\nc: *x\nd: *x\n")
    assert data == {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1]}}
    assert data["c"] is not data["d"]
    assert data["c"]["b"] is not data["a"]["b"]


def test_the_second_of_two_equal_keys_is_the_problem() -> None:
    problem = only_problem("a: 1\nb: 2\n'a': 3\n")
    assert problem.message == "the key 'a' stands here a second time, first in line 1"
    assert (problem.place.line, problem.place.column) == (3, 1)


def test_equal_keys_do_not_hide_each_other_nor_anything_else() -> None:
    assert len(problems_in("a: {x: 1, x: 2}\na: 1\nb: !foo x\n<<: {}\n")) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !foo x", "!foo is a tag"),
        ("a: !!python/object/apply:os.system [ls]", "!!python/object/apply:os.system is a tag"),
        ("a: !!int '1'", "!!int is a tag"),
        ("x: &x {a: 1}\ny:\n  <<: *x", "no merge key"),
        ("? [a]\n: b", "a key must be text"),
        ("{[a]: b}", "a key must be text"),
        ("{: b}", "a key is missing"),
        ("{? : b}", "a key is missing"),
        ("a: *b", "no value is named &b"),
        ("a: &a [*a]", "inside of the value that it names"),
        ("a: 1\n---\nb: 1", "a second document"),
        ("a: {{ x }}", "an unquoted {{"),
        ("[" * 3000, f"nested more than {MAX_DEPTH}"),
        ("- " * 3000, f"nested more than {MAX_DEPTH}"),
        ('a: "\x00"', "U+0000 is not allowed"),
        ("a: \x1b[0m", "U+001B is not allowed"),
        ("a: \ud800", "U+D800 is not allowed"),
    ],
)
def test_what_a_spec_cannot_hold_is_one_problem(text: str, words: str) -> None:
    assert words in only_problem(text).message


def test_a_bomb_of_aliases_is_refused_before_it_goes_off() -> None:
    levels = [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    bomb = "a: &a [lol, lol]\n" + "\n".join(levels)
    assert f"more than {MAX_ALIASED_NODES:,} values" in only_problem(bomb).message


def test_aliases_cannot_nest_deeper_than_text_can() -> None:
    chain = "x0: &x0 [1]\n" + "".join(f"x{i}: &x{i} [*x{i - 1}]\n" for i in range(1, 60))
    assert "nested" in only_problem(chain).message


def test_an_unquoted_template_is_read_as_the_text_that_was_meant() -> None:
    node, problems = read_yaml(Sheet("f.yaml", "a: {{ x }}\nb: 1\nb: 2\n"))
    assert isinstance(node, MapNode)
    assert data_of(node) == {"a": "{{ x }}", "b": 1}
    assert len(problems) == 2


@given(st.text() | st.text("{}[]:,-?&*!|>'\"%@`# \n\tab1"))
def test_any_text_gives_nodes_or_problems(text: str) -> None:
    node, problems = read_yaml(Sheet("f.yaml", text))
    assert node is not None or problems or not text.partition("#")[0].strip("\ufeff \n\r\t.-")
    for problem in problems:
        assert problem.render()
