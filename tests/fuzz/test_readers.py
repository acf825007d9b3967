"""What reads the text of others gives a value or its own error, soon, whatever the text is."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gptflow.data.sinks.sink import open_sink
from gptflow.data.sources.files import FileSource, InputFile
from gptflow.engine.attempt import Response
from gptflow.engine.config import load_config
from gptflow.engine.verdicts import judge_flaw, judge_response
from gptflow.engine.wire import decode, texts
from gptflow.errors import ConfigError, DataError, SpecError
from gptflow.pipeline.compile import compile_plan
from gptflow.pipeline.extract.extractor import extract_all
from gptflow.pipeline.extract.invalid import BadExtractor, Invalid
from gptflow.pipeline.extract.json_finder import json_values as found_json
from gptflow.pipeline.prompts import RENDER_ERRORS, PromptEnvironment, render
from gptflow.records import Reply, RowResult, RowStatus
from gptflow.spec.load import read_spec
from tests.fuzz.fuzzing import (
    broken_json,
    fuzzed,
    json_values,
    odd_text,
    odd_values,
    quick,
)
from tests.pipeline.extract.test_extractor import CONTRACT, built

GUIDE = """
name: a
vars: {labels: [x, y]}
source: {rows: [{text: a}], id: text, where: text, limit: 3}
model: {name: m, temperature: 0, extra_body: {top_k: 4}}
templates: .
steps:
  - name: ask
    system: "Be {{ vars.labels[0] }}."
    prompt: |
      {% for l in labels %}{{ l }}{% endfor %} {{ row.text }} ${HOME}
    examples: [{user: u, assistant: a}]
    extract: {label: {choice: "{{ labels }}"}, n: {json: a.b, type: int}, w: {regex: (a+)}}
    on_invalid: {reask: 1, then: keep}
  - {name: more, when: label, prompt: "{{ steps.ask.reply }}", extract: {s: text}}
limits: {timeout_s: 1.5, attempts: 2}
output: {path: out/a.csv, columns: [label]}
"""
WORDS = sorted(
    {*GUIDE.split(), "&a", "*a", "<<:", "!!str", "|-", ">", "? ", "- ", "---", "\t", "\n  "}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@st.composite
def near_specs(draw: st.DrawFn) -> str:
    """The guide's spec with a stretch of it replaced."""
    start = draw(st.integers(0, len(GUIDE)))
    end = draw(st.integers(start, min(len(GUIDE), start + 30)))
    new = draw(st.lists(st.sampled_from(WORDS) | odd_text, max_size=4).map(" ".join))
    return GUIDE[:start] + new + GUIDE[end:]


@st.composite
def near_data(draw: st.DrawFn) -> str:
    """The guide's data with one value replaced by any other."""
    data = yaml.safe_load(GUIDE)
    node: Any = data
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = draw(st.sampled_from([*keys]))
        if not isinstance(node[key], dict | list) or not node[key] or draw(st.booleans()):
            node[key] = draw(json_values | odd_values)
            return json.dumps(data)
        node = node[key]


@fuzzed
@given(near_specs() | near_data() | st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
@example(json.dumps({"model": {"name": "m", "temperature": 10**400}}))
@example(json.dumps({**yaml.safe_load(GUIDE), "templates": "\0"}))
def test_any_text_is_a_spec_or_has_problems(folder: Path, text: str) -> None:
    path = folder / "spec.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with quick():
        draft = read_spec(path, environ={"HOME": "{{ x }}"})
        for problem in draft.problems:
            assert problem.render()
        if draft.spec is not None:
            with contextlib.suppress(SpecError):
                compile_plan(draft.spec, columns=["text"], known=draft.problems)


PIECES = st.sampled_from(
    [
        *(
            "{{",
            "}}",
            "{%",
            "%}",
            "for x in ",
            "endfor",
            "if ",
            "endif",
            "set y = ",
            "row",
            ".text",
            "[0]",
        ),
        *(
            " | join",
            " | upper",
            " | map('",
            "(",
            ")",
            "'",
            "%s",
            "{0}",
            ".format",
            " ~ ",
            " * ",
            " + ",
            " in ",
        ),
        *(
            "9",
            "99999",
            "text",
            "row.items()",
            "range(9)",
            "namespace(a=1)",
            "macro f()",
            "endmacro",
            "-",
            "#}",
        ),
        *(
            "loop.index",
            "include 'a'",
            "[",
            "]",
            "{",
            "}",
            ":",
            ",",
            "none",
            "**",
            "//",
            "\n",
            " is ",
            "defined",
        ),
    ]
)


@fuzzed
@given(st.lists(PIECES | odd_text, max_size=25).map("".join), json_values)
def test_any_template_renders_or_fails_the_row(text: str, value: Any) -> None:
    environment = PromptEnvironment({"a": "{{ text }}"})
    with quick(), contextlib.suppress(*RENDER_ERRORS):
        template = environment.from_string(text)
        assert isinstance(render(template, {"text": value, "row": {"text": value}}), str)


@fuzzed
@given(
    st.sampled_from(["upper", "join", "title", "wordwrap", "tojson", "urlize", "center", "indent"])
    | st.sampled_from(sorted(PromptEnvironment().filters)),
    json_values | odd_text,
    st.lists(json_values, max_size=2),
)
@example("truncate", "", [False])
def test_any_filter_takes_any_value_or_fails_the_row(
    name: str, value: Any, given_: list[Any]
) -> None:
    names = {"value": value, **{f"a{index}": one for index, one in enumerate(given_)}}
    text = f"{{{{ value | {name}({', '.join(list(names)[1:])}) }}}}"
    with quick(), contextlib.suppress(*RENDER_ERRORS):
        render(PromptEnvironment().from_string(text), names)


@fuzzed
@given(broken_json().map(lambda raw: raw.decode(errors="replace")) | odd_text)
def test_any_reply_has_json_or_not(text: str) -> None:
    with quick(), contextlib.suppress(Invalid):
        assert all(json.dumps(value) for value in found_json(text))


EXTRACTORS = [built(spec) for spec, *_ in CONTRACT]
GOOD = [good for _, good, *_ in CONTRACT]


@fuzzed
@given(
    st.sampled_from(EXTRACTORS),
    odd_text
    | st.sampled_from(GOOD).flatmap(lambda good: odd_text.map(lambda odd: good + odd))
    | broken_json().map(lambda raw: raw.decode(errors="replace")),
)
def test_any_reply_gives_the_fields_or_is_invalid(extractor: Any, text: str) -> None:
    with quick(), contextlib.suppress(Invalid):
        assert tuple(extract_all([extractor], text)) == extractor.fields


@fuzzed
@given(st.text("(a+)*?|[]{}^$\\dwb1,9:<>P=!-x", max_size=30), st.text("a1 !", max_size=40))
def test_any_pattern_works_or_is_refused(pattern: str, reply: str) -> None:
    with quick(), contextlib.suppress(BadExtractor, Invalid):
        extract_all([built({"regex": pattern or "a", "timeout_s": 0.1})], reply)


KEYS = st.dictionaries(
    st.sampled_from(
        ["api_key", "organization", "base_url", "models", "rpm", "headers", "name", "x"]
    ),
    json_values | st.sampled_from(["sk-${HOME}", "http://localhost:1/v1", "https://a.b/c"]),
)
CONFIGS = st.fixed_dictionaries({"key_list": st.lists(KEYS, max_size=3) | json_values})


@fuzzed
@given(
    CONFIGS.map(json.dumps).map(str.encode)
    | broken_json()
    | odd_text.map(lambda t: t.encode(errors="surrogatepass"))
)
def test_any_file_is_a_config_or_has_problems(folder: Path, raw: bytes) -> None:
    path = folder / "config.json"
    path.write_bytes(raw)
    with quick(), contextlib.suppress(ConfigError):
        assert load_config(path, {"HOME": "/home"}).keys


LINES = st.lists(
    json_values.map(lambda value: json.dumps({"a": value}).encode()) | broken_json() | st.binary()
)
TABLES = st.lists(st.lists(odd_text, min_size=1, max_size=3).map(",".join)).map(
    lambda lines: "\n".join(lines).encode(errors="surrogatepass")
)


@fuzzed
@given(
    st.sampled_from(["jsonl", "json", "csv", "tsv", "txt"]),
    LINES.map(b"\n".join) | TABLES | broken_json(),
)
def test_any_file_is_a_source_or_broken(folder: Path, name: Any, raw: bytes) -> None:
    path = folder / f"rows.{name}"
    path.write_bytes(raw)
    with quick(), contextlib.suppress(DataError):
        for record in FileSource([InputFile.of(path)]).records():
            assert json.loads(record.raw).keys() == record.columns.keys()


@fuzzed
@given(st.dictionaries(odd_text, json_values, min_size=1), st.booleans())
def test_any_row_can_be_written(row: dict[str, Any], is_safe: bool) -> None:
    result = RowResult(0, RowStatus.DONE, json.dumps(row).encode(), b'{"f": 1}')
    for name in ("jsonl", "json", "csv"):
        stream = io.BytesIO()
        sink = open_sink(stream, name, known=list(row), csv_safe=is_safe)
        with quick():
            sink.write(result)
            sink.finish()
        assert stream.getvalue().decode()


CHOICES = st.lists(
    st.fixed_dictionaries(
        {"message": st.dictionaries(st.sampled_from(["content", "refusal", "role"]), json_values)},
        optional={"finish_reason": json_values, "index": json_values},
    )
    | json_values,
    max_size=3,
)
BODIES = st.fixed_dictionaries(
    {"choices": CHOICES | json_values},
    optional={"usage": json_values, "model": json_values, "error": json_values, "id": json_values},
)


@fuzzed
@given(BODIES.map(json.dumps).map(str.encode) | broken_json() | st.binary())
@example(b"[" * 100_000)
def test_any_body_is_a_reply_or_a_flaw(body: bytes) -> None:
    with quick():
        reply = decode(body)
        if isinstance(reply, Reply):
            assert isinstance(reply.text, str)
            assert texts(body)
        else:
            assert judge_flaw(reply, Response(200, {}, body), 0.0)


ERRORS = st.fixed_dictionaries(
    {
        "error": json_values
        | st.dictionaries(st.sampled_from(["message", "type", "code"]), json_values)
    }
)


@fuzzed
@given(
    st.sampled_from([200, 302, 400, 401, 403, 404, 413, 429, 500, 503, 529, 599]),
    ERRORS.map(json.dumps).map(str.encode) | broken_json() | st.binary(),
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry"]), st.text()
    ),
)
def test_any_refusal_has_a_verdict(status: int, body: bytes, headers: dict[str, str]) -> None:
    with quick():
        assert judge_response(Response(status, headers, body), 0.0)
