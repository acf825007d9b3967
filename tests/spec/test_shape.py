from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from gptflow.spec.problems import Problem

Problems = Callable[..., list[Problem]]


def with_step(line: str) -> str:
    """A spec whose one step has one more line."""
    return dedent(f"""\
        name: tiny
        source: {{range: 3}}
        model: {{name: m}}
        steps:
          - name: ask
            prompt: x
            {line}
        """)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("paralelism: {mode: async}", "unknown key 'paralelism'", "did you mean 'parallelism'?"),
        ("temperature: 0", "unknown key 'temperature'", "it belongs under `model`"),
        ("path: x.jsonl", "unknown key 'path'", "it belongs under `source` or `output`"),
        ("xyz: 1", "unknown key 'xyz'", "known here: name, vars, source"),
        ("vars: {a-b: 1}", "'a-b' cannot be a name", "letters"),
        ("vars: [1]", "expected a mapping, found a list", "Constants"),
        ("limits: {timeout_s: 0}", "above 0 and of at most 86,400, found the number 0", "Seconds"),
        ("limits: {timeout_s: 1.0e+15}", "of at most 86,400, found the number 1", "Seconds"),
        ("limits: {attempts: 2.0}", "at least 1, found the number 2.0", "write 2"),
        ('limits: {attempts: "2"}', "found '2'", "write it without quotes: 2"),
        ("limits: {attempts: true}", "found true", "Attempts"),
        ("limits: {timeout_s: .inf}", "of at most 86,400, found the number inf", "Seconds"),
        ("parallelism: {concurrency: 0}", "from 1 to 10,000 or 'auto', found the number 0", "auto"),
        ("parallelism: {concurrency: aut}", "'auto', found 'aut'", "did you mean 'auto'?"),
        (
            "output: out.jsonl",
            "expected a mapping, found 'out.jsonl'",
            "`output: {path: out.jsonl}`",
        ),
        ("output: {columns: []}", "at least one item, found an empty list", "Columns"),
    ],
)
def test_a_mistake_at_the_top_is_told_in_a_persons_words(
    line: str, message: str, hint: str, problems: Problems, minimal: str
) -> None:
    (problem,) = problems(f"{minimal}{line}\n")
    assert message in problem.message
    assert hint in (problem.hint or "")
    assert problem.place.line == 7


@pytest.mark.parametrize(
    ("line", "column", "message", "hint"),
    [
        ("system: 5", 13, "expected text or {file: ...}, found the number 5", 'quote it: "5"'),
        ("system: 1.10", 13, "found the number 1.1", 'quote it: "1.10"'),
        ("system: {fil: x}", 14, "unknown key 'fil'", "did you mean 'file'?"),
        ("system: [x]", 5, "expected text or {file: ...}, found a list", "The system message"),
        ("extract: {a: {one_of: [b: c]}}", 28, "found a mapping", "quote it"),
        ("examples: {}", 5, "the key 'file' is missing", "`file: label.jinja`"),
        ("examples: [{user: a}]", 17, "the key 'assistant' is missing", "`assistant: negative`"),
        ("examples: x", 15, "expected a list or {file: ...}, found 'x'", "Few-shot"),
        ("structured: yes", 17, "expected true or false, found 'yes'", "write true"),
        ("structured: 'off'", 17, "expected true or false, found 'off'", "write false"),
        ("on_invalid: {then: fial}", 24, "expected 'fail' or 'keep'", "did you mean 'fail'?"),
        ("model: gpt-4o", 12, "expected a mapping, found 'gpt-4o'", "`model: {name: gpt-4o}`"),
        ("extract: {a: txt}", 18, "expected an extractor, found 'txt'", "did you mean 'text'?"),
        ("extract: {a: 5}", 18, "expected an extractor, found the number 5", "write `text`"),
        ("extract: {a: {regexp: x}}", 19, "unknown key 'regexp'", "did you mean 'regex'?"),
        ("extract: {a: {jsn: x, one_of: [b]}}", 19, "unknown key 'jsn'", "did you mean 'json'?"),
        ("extract: {a: {zz: x}}", 15, "does not say what it takes", "write `text`"),
        ("extract: {a: {json: x, regex: y}}", 15, "regex and json in one extractor", "field"),
        ("extract: {a: {regex: 5}}", 26, "expected some text, found the number 5", "quote it"),
        ("extract: {a: {regex: x, grup: 1}}", 29, "unknown key 'grup'", "did you mean 'group'?"),
        ("extract: {a: {regex: x, all: 1}}", 34, "expected true or false", "Take every match"),
        ("extract: {a: {regex: x, flags: g}}", 36, "'g' cannot be the flags", "ignore case"),
        ("extract: {a: {choice: [b], one_of: [c]}}", 15, "either as the value of choice", ""),
        ("extract: {a: {text: true, type: strin}}", 37, "found 'strin'", "did you mean 'string'?"),
        ("extract: {1st: text}", 15, "'1st' cannot be a name", "no digit first"),
    ],
)
def test_a_mistake_in_a_step_is_told_once_and_at_its_place(
    line: str, column: int, message: str, hint: str, problems: Problems
) -> None:
    (problem,) = problems(with_step(line))
    assert message in problem.message
    assert hint in (problem.hint or "")
    assert str(problem.place) == f"label.yaml:7:{column}"


def test_a_missing_key_is_told_at_its_parent_with_a_line_to_add(problems: Problems) -> None:
    found = problems("name: x\nmodel: {name: m}\nsource: {range: 1, sample: {}}\n")
    assert [(str(problem.place), problem.message) for problem in found] == [
        ("label.yaml:1:1", "the key 'steps' is missing"),
        ("label.yaml:3:20", "the key 'n' is missing"),
    ]
    assert found[1].hint == "add a line such as `n: 100`"


def test_a_misspelt_key_is_not_missing_as_well(problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal.replace("prompt", "promt"))
    assert problem.message == "unknown key 'promt'"


def test_a_name_that_no_file_can_have_is_told_with_the_rule(
    problems: Problems, minimal: str
) -> None:
    (problem,) = problems(minimal.replace("tiny", "my pipeline"))
    assert problem.message == "'my pipeline' cannot be the name"
    assert "letters, digits" in (problem.hint or "")


@pytest.mark.parametrize("source", ["{}", "{limit: 3}", "{range: 3, rows: [{a: 1}]}"])
def test_a_source_says_one_thing(source: str, problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal.replace("{range: 3}", source))
    assert "exactly one of path, rows and range" in problem.message
    assert str(problem.place) == "label.yaml:2:1"


def test_an_empty_value_is_told_at_its_key(problems: Problems, minimal: str) -> None:
    (problem,) = problems(minimal.replace(" Tell a story.", ""))
    assert problem.message == "expected text or {file: ...}, found nothing"
    assert str(problem.place) == "label.yaml:6:5"
