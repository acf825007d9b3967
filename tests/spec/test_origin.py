from __future__ import annotations

import pickle
from pathlib import Path
from textwrap import indent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptflow.spec.node import Sheet, data_of
from gptflow.spec.origin import KeyPath, Origin, value_at
from gptflow.spec.yaml12 import read_yaml

TEXT = """\
name: tiny
steps:
  - name: ask
    prompt: |
      Say {{ hello }}
        to {{ you }}.
  - {name: tell, prompt: 'it''s {{ x }}'}
vars: {list: [1, "a\\tb {{ c }}"]}
"""


def origin_of(text: str) -> Origin:
    node, problems = read_yaml(Sheet("f.yaml", text))
    assert problems == []
    return Origin("f.yaml", Path(), text, node)


def at(text: str, path: KeyPath, part: str) -> tuple[str, int]:
    """What stands in the file where `part` of the value at `path` is said to stand; its line."""
    origin = origin_of(text)
    value = value_at(data_of(origin.tree), path) if origin.tree else ""
    place = origin.place(path, offset=value.index(part), length=len(part))
    return place.text[place.column - 1 :][: place.length], place.line


@pytest.mark.parametrize(
    ("path", "key", "place"),
    [
        (("name",), False, "f.yaml:1:7"),
        (("name",), True, "f.yaml:1:1"),
        (("steps",), True, "f.yaml:2:1"),
        (("steps", 1, "name"), False, "f.yaml:7:12"),
        (("steps", 1), True, "f.yaml:7:6"),
        (("vars", "list", 1), False, "f.yaml:8:18"),
        (("vars", "list", 1), True, "f.yaml:8:18"),
        (("steps", 0, "extract"), False, "f.yaml:3:5"),
        (("steps", 7, "name"), False, "f.yaml:2:1"),
        (("vars", "gone", "deep"), False, "f.yaml:8:1"),
        (("gone",), True, "f.yaml:1:1"),
        ((), True, "f.yaml:1:1"),
    ],
)
def test_every_node_has_a_place_and_a_missing_one_its_parents(
    path: KeyPath, key: bool, place: str
) -> None:
    assert str(origin_of(TEXT).place(path, key=key)) == place


@pytest.mark.parametrize(
    ("path", "part", "line"),
    [
        (("steps", 0, "prompt"), "hello", 5),
        (("steps", 0, "prompt"), "you", 6),
        (("steps", 1, "prompt"), "x", 7),
        (("vars", "list", 1), "c }}", 8),
    ],
)
def test_a_stretch_of_a_value_is_found_in_the_file(path: KeyPath, part: str, line: int) -> None:
    assert at(TEXT, path, part) == (part, line)


@pytest.mark.parametrize(
    "text",
    [
        "a: one two {{ x }} three",
        "a: one\n  two\n\n  {{ x }}\n  three",
        "a: 'it''s\n  {{ x }}'",
        'a: "t\\tw\\n\\x41\\u00e9 \\\n   \\" {{ x }}\\n"',
        'a: "one\n\n  {{ x }} two"',
        "a: >\n  one\n  two\n\n    {{ x }}\n",
        "a: >2-\n    one\n  {{ x }}\n",
        "a: |2+\n    one\n\n  {{ x }}\n\n",
        "a: | # a comment with {{ x }}\n  {{ x }}\n",
        "a: &anchor |\n  {{ x }}\n",
        "a: !!str '{{ x }}'",
        "a: |\r\n  one\r\n  {{ x }}\r\n",
    ],
)
def test_whatever_the_style_a_name_is_found(text: str) -> None:
    assert at(text, ("a",), "{{ x }}")[0] == "{{ x }}"


def test_an_escape_is_underlined_whole() -> None:
    assert at('a: "1 \\u00e9 2"', ("a",), "é") == ("\\u00e9", 1)


lines = st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="\x85"))


@given(st.lists(lines, min_size=1), st.integers(1, 9), st.sampled_from(["", "-", "+"]))
def test_each_character_of_a_literal_block_is_found(
    block: list[str], depth: int, chomping: str
) -> None:
    text = "\n".join(["x", *block, "x"])
    file = f"a: |{depth}{chomping}\n{indent(text, ' ' * depth, lambda _: True)}\nb: 1\n"
    origin, file_lines = origin_of(file), file.split("\n")
    for offset, char in enumerate(text):
        place = origin.place(("a",), offset=offset)
        assert place.line == 2 + text[:offset].count("\n")
        if char != "\n" and text.split("\n")[place.line - 2].strip(" \t"):
            assert file_lines[place.line - 1][place.column - 1] == char


@given(st.text("ab {}\n\t'\"\\é漢"), st.integers(-1, 40), st.integers(-1, 40))
def test_any_stretch_of_a_quoted_text_has_a_place_in_its_line(
    text: str, offset: int, length: int
) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    place = origin_of(f'a: "{quoted}"').place(("a",), offset=offset, length=length)
    assert place.line == 1
    assert place.column >= 4


def test_an_alias_points_at_what_it_names() -> None:
    assert str(origin_of("a: &x {b: 1}\nc: *x\n").place(("c", "b"))) == "f.yaml:1:11"


def test_a_spec_from_no_file_names_the_path() -> None:
    assert str(Origin.nowhere().place(("steps", 0, "prompt"))) == "steps.0.prompt"
    assert Origin.nowhere().folder == Path.cwd()


def test_an_origin_travels_to_other_processes() -> None:
    origin = origin_of(TEXT)
    assert pickle.loads(pickle.dumps(origin)) == origin
