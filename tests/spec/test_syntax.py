"""Each slip that is common in YAML is told by its own name, at its own place."""

from __future__ import annotations

import pytest

from gptflow.spec.node import Sheet
from gptflow.spec.yaml12 import read_yaml

SLIPS = {
    "a tab": ("a:\n\tb: 1\n", "2:1", "a tab in the indentation", "spaces"),
    "a tab after spaces": ("a:\n  b: 1\n  \tc: 1\n", "3:3", "a tab", "spaces"),
    "template with more text": ("a: {{ x }} more\n", "1:4", "unquoted {{", "quote the whole"),
    "template with a quote": ('a: {{ x | join(", ") }}\nb: 1\n', "1:4", "unquoted {{", "quote"),
    "template in a list": ("- {{ x }} b\n", "1:3", "unquoted {{", "quote"),
    "open quote": ('a: "abc\nb: 1\n', "1:4", "never closed", "key: |"),
    "open quote before another": (
        'a: "abc\nb: "def"\n',
        "1:4",
        "closed only in line 2",
        "close it",
    ),
    "quote in single quotes": ("a: 'don't'\n", "1:9", "after its closing quote", "written twice"),
    "quote in double quotes": ('a: "say "hi""\n', "1:10", "after its closing quote", '\\"'),
    "backslash": ('a: "\\d+"\n', "1:5", "\\d is no escape", "single quotes"),
    "half a character": ('a: "x\\ud83d\\ude00"\n', "1:6", "\\ud83d is no character", "itself"),
    "two colons": ("a: b: c\n", "1:5", "a second colon", "quote the value"),
    "no space": ("name:foo\nb: 1\n", "1:1", "no space after the colon", "key: value"),
    "no colon": ("a\nb: 1\n", "1:1", "neither a key nor", "key: value"),
    "too deep": ("a: 1\n  b: 2\n", "2:4", "indented more", "line up"),
    "between two levels": ("a:\n    b: 2\n   c: 3\n", "3:4", "indentation fits none", "line it up"),
    "no dash": ("a:\n  - b\n  c: 1\n", "3:3", "indentation fits none", "- "),
    "open bracket": ("a: [1, 2\nb: 3\n", "1:4", "this [ is never closed", "close it with ]"),
    "open bracket at the end": ("a: [\n  {b: 1},\n", "1:4", "this [ is never", "close it with ]"),
    "open brace": ("a: {b: 1\nc: 3\n", "1:4", "this { is never closed", "close it with }"),
    "no comma": ("a: {b: 1 c: 2}\n", "1:11", "a comma or } is missing", "commas"),
    "glob": ("a: *.jsonl\n", "1:4", "cannot begin with *", '"*.jsonl"'),
    "at sign": ("a: @me\n", "1:4", "cannot begin with @", '"@me"'),
    "backtick": ("a: `x`\n", "1:4", "cannot begin with `", "quote"),
    "percent": ("a: %x\n", "1:4", "cannot begin with %", "quote"),
    "stray brace": ("a: 1\nb: }\n", "2:4", "cannot begin with }", "quote"),
    "text after a bar": ("a: |foo\n  x\n", "1:5", "begins in the line after", "indented"),
    "list beside its key": ("a: - b\n", "1:4", "a list cannot begin", "[item, item]"),
    "no key": (": 1\n", "1:1", "a key is missing", "write the key"),
    "foreign directive": ("%YAML 3.0\n---\na: 1\n", "1:1", "not valid YAML", "look for"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_where_it_stands_and_how_it_is_mended(slip: str) -> None:
    text, place, message, hint = SLIPS[slip]
    _, problems = read_yaml(Sheet("f", text))
    assert [f"{problem.place}" for problem in problems] == [f"f:{place}"]
    assert message in problems[0].message
    assert hint in (problems[0].hint or "")


def test_what_was_found_before_a_syntax_error_is_told_too() -> None:
    _, problems = read_yaml(Sheet("f", "a: 1\na: 2\nb: 'don't'\n"))
    assert [problem.place.line for problem in problems] == [2, 3]
