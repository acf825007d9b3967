"""Functions in a run: what is told of them before a row is asked, and what each row comes to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import gptflow
from gptflow.errors import GptflowError
from gptflow.runner.summary import RunSummary
from tests.own_python import forgotten_afterwards
from tests.project import Project, serving

HOOKS = """\
def split(row):
    return [{**row, "text": text} for text in row["text"].split("|")]


def words(row):
    if row["text"] != "good":
        BODY
    return {"words": len(row["text"].split())}


def first(text, row):
    if row["text"] not in text:
        raise ValueError(f"it does not say {row['text']!r}")
    return text.split()[0]


async def later(row, wrapper): ...
def nothing(row): return "x"
def fails(row): return row["no"]
"""
SPEC = """\
name: reviews
source: {path: reviews.jsonl, transform: "own_hooks:split"}
model: {name: gpt-4o-mini, temperature: 0}
steps:
  - {name: count, python: "own_hooks:words", fields: [words]}
  - name: label
    prompt: "Label {{ text }} of {{ words }} words, {{ steps.count.fields.words }}."
    extract: {label: {python: "own_hooks:first"}}
output: {path: out/labels.jsonl}
"""


SAYING = {"reply": [{"match": "", "text": "It says good and not bad."}]}


@pytest.fixture
def project(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """A working directory with SPEC, and HOOKS in the folder lib."""
    monkeypatch.chdir(tmp_path)
    scenario = getattr(request, "param", SAYING)
    with forgotten_afterwards(tmp_path), serving(tmp_path, scenario) as made:
        made.write("spec.yaml", SPEC)
        made.write("lib/own_hooks.py", HOOKS.replace("BODY", "pass"))
        made.write_rows([{"id": 1, "text": "good|not bad"}])
        yield made


def run_here() -> RunSummary:
    return gptflow.run("spec.yaml", allow_python=True, python_path=["lib"])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("own_hooks:split", "own_hooks:splitt", "did you mean 'split'?"),
        ("own_hooks:words", "own_hooks:later.x", "has no function 'later.x'"),
        ("own_hooks:words", "own_hooks", "'own_hooks' names no function"),
        ("own_hooks:words", "os:cpu_count", "does not fit: it is called with (row) or (row,"),
        ("own_hooks:first", "own_hooks:later", "is async; only the hook of a step may be"),
        ("fields: [words]", "fields: []", "at least one item"),
        (", fields: [words]", "", "the key 'fields' is missing"),
        ("fields: [words]", "fields: [words, words]", "two fields are named 'words'"),
        ("fields: [words]", "fields: [label]", "two fields are named 'label'"),
        ("fields: [words]", "fields: [text]", "has the name of a column of the source"),
        ("fields: [words]", "fields: [row]", "'row' means something else in templates"),
        ("fields: [words]", "fields: [words], prompt: x", "either a prompt or python"),
        ("fields: [words]", "fields: [words], system: x", "`system` does not go with `python`"),
        ("    prompt: ", "    fields: [x]\n    prompt: ", "`fields` goes with `python`"),
        ("{{ words }}", "{{ wrods }}", "Did you mean 'words'?"),
        ("fields.words", "fields.word", "Did you mean 'words'?"),
        ("own_hooks:split", "own_hooks:nothing", "gave text, expected a row (dict)"),
        ("own_hooks:split", "own_hooks:fails", "own_hooks:fails: KeyError: 'no' ("),
    ],
)
def test_what_can_be_known_is_told_before_a_row_is_asked(
    project: Project, old: str, new: str, told: str
) -> None:
    assert old in SPEC
    project.write("spec.yaml", SPEC.replace(old, new, 1))
    with pytest.raises(GptflowError) as error:
        run_here()
    assert told in str(error.value)
    assert project.asked() == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", "own_hooks:words gave nothing (None), expected a dict with words"),
        ("return {'words': {1}}", "own_hooks:words gave a set in words, which JSON does not have"),
        ("return {'wodrs': 1}", "own_hooks:words gave a dict with no words and also"),
        ("return {}[3]", "own_hooks:words: KeyError: 3 (lib/own_hooks.py:7)"),
        ("raise SystemExit(3)", "own_hooks:words: SystemExit: 3 (lib/own_hooks.py:7)"),
        ("raise KeyboardInterrupt", "own_hooks:words: KeyboardInterrupt (lib/own_hooks.py:7)"),
    ],
)
def test_a_function_that_fails_fails_its_row_alone(project: Project, body: str, told: str) -> None:
    project.write("lib/own_hooks.py", HOOKS.replace("BODY", body))
    summary = run_here()
    assert (summary.done, summary.failed) == (1, 1)
    (failed,) = project.output("out/labels.failed.jsonl")
    assert failed["error"]["kind"] == "hook"
    assert failed["error"]["step"] == "count"
    assert failed["error"]["message"].startswith(f"python of step 'count': {told}")


def test_an_async_function_that_fails_does_so_too(project: Project) -> None:
    body = "async def words(row):\n    raise asyncio.CancelledError\n"
    project.write("lib/own_hooks.py", HOOKS.replace("BODY", "pass") + "\nimport asyncio\n" + body)
    assert (
        run_here().done,
        [row["error"]["kind"] for row in project.output("out/labels.failed.jsonl")],
    ) == (0, ["hook", "hook"])


@pytest.mark.parametrize(
    "project",
    [
        {
            "reply": [
                {"match": "cannot be used", "text": "good, not bad"},
                {"match": "", "text": "no"},
            ]
        }
    ],
    indirect=True,
)
def test_a_value_error_of_an_extractor_is_told_to_the_model(project: Project) -> None:
    reasks = SPEC.replace('own_hooks:first"}}', 'own_hooks:first"}}\n    on_invalid: {reask: 1}')
    project.write("spec.yaml", reasks)
    assert run_here().done == 2
    asked = [text for text in project.asked() if "cannot be used" in text]
    assert len(asked) == 2
    assert "label: it does not say 'good'" in "".join(asked)


@pytest.mark.parametrize(
    ("name", "told"),
    [("nothing", "gave nothing"), ("fails", "TypeError: string indices"), ("is_set", "gave a set")],
)
def test_an_extractor_that_fails_fails_its_row(project: Project, name: str, told: str) -> None:
    extra = "def is_set(text): return {1}\n"
    project.write("lib/own_hooks.py", HOOKS.replace("BODY", "pass") + extra)
    project.write("spec.yaml", SPEC.replace("own_hooks:first", f"own_hooks:{name}"))
    summary = run_here()
    if name == "nothing":
        assert summary.done == 2  # a text, which is a value
        return
    assert summary.failures[0].kind == "hook"
    assert told in summary.failures[0].message


def test_type_and_one_of_hold_for_what_a_function_gives(project: Project) -> None:
    extract = '{python: "own_hooks:first", one_of: [it, they]}'
    project.write("spec.yaml", SPEC.replace('{python: "own_hooks:first"}', extract))
    run_here()
    assert [row["label"] for row in project.output()] == ["it", "it"]


def test_a_row_of_its_own_is_what_a_function_writes_into(project: Project) -> None:
    project.write(
        "lib/own_hooks.py",
        HOOKS.replace("BODY", "pass").replace(
            '    return {"words"', "    row['tags'].append(1)\n    return {\"words\""
        ),
    )
    project.write_rows([{"id": 1, "text": "good", "tags": [0]}])
    run_here()
    assert project.output()[0]["tags"] == [0]


def test_a_transform_that_is_not_the_same_twice_is_told(project: Project) -> None:
    project.write(
        "lib/own_hooks.py",
        HOOKS.replace("BODY", "pass")
        + """
import itertools
count = itertools.count()
def random(row): return {**row, "n": next(count)}
""",
    )
    project.write("spec.yaml", SPEC.replace("own_hooks:split", "own_hooks:random"))
    with pytest.raises(GptflowError) as error:
        run_here()
    assert "reviews.jsonl:1 is another row" in str(error.value)
    assert "the same rows for the same record each time" in str(error.value)
    assert project.asked() == []


ASKS = """
name: reviews
source: {path: reviews.jsonl}
model: {name: gpt-4o-mini, seed: 3, top_p: 0.5, extra_body: {top_k: 4}}
steps:
  - {name: own, python: "asks:own", fields: [a]}
output: {path: out/labels.jsonl}
"""


def asking(project: Project, body: str, spec: str = ASKS) -> None:
    """The function `own`, which asks."""
    project.write(
        "lib/asks.py", f"from __future__ import annotations\nimport asyncio, time\n{body}"
    )
    project.write("spec.yaml", spec)
    project.write_rows([{"id": 1, "text": "good"}, {"id": 2, "text": "bad"}])


def test_the_same_question_twice_has_two_answers_and_each_is_found_again(project: Project) -> None:
    body = """
async def own(row, wrapper):
    texts = [wrapper.acompletions_with_backoff("gpt-4o-mini", "Hi") for _ in range(3)]
    return {"a": await asyncio.gather(*texts)}
"""
    asking(project, body)
    assert run_here().calls == 6
    asking(project, body + "\n")
    again = run_here()
    assert (again.calls, again.reused_calls) == (0, 6)


def test_a_deterministic_question_is_asked_once_for_all_rows(project: Project) -> None:
    asking(project, "def own(row, wrapper):\n return {'a': wrapper.complete(messages='Hi').text}")
    summary = run_here()
    assert (summary.calls, summary.reused_calls) == (1, 1)


@pytest.mark.parametrize(
    "project", [{"failures": [{"name": "context_length_exceeded"}]}], indirect=True
)
def test_a_question_that_is_refused_fails_the_row_as_any_other(project: Project) -> None:
    asking(
        project,
        "def own(row, wrapper):\n return {'a': wrapper.complete(messages=row['text']).text}",
    )
    run_here()
    kinds = [row["error"]["kind"] for row in project.output("out/labels.failed.jsonl")]
    assert kinds == ["rejected", "rejected"]


@pytest.mark.parametrize(
    "project", [{"failures": [{"name": "context_length_exceeded"}]}], indirect=True
)
def test_unless_the_function_has_an_answer_of_its_own(project: Project) -> None:
    body = """
from gptflow.errors import CallFailed
def own(row, wrapper):
    try:
        return {"a": wrapper.complete(messages=row["text"]).text}
    except CallFailed as failed:
        return {"a": failed.failure.kind}
"""
    asking(project, body)
    run_here()
    assert [row["a"] for row in project.output()] == ["rejected", "rejected"]


def test_a_limit_of_the_run_passes_through_whatever_a_function_catches(project: Project) -> None:
    body = """
def own(row, wrapper):
    try:
        return {"a": wrapper.complete("gpt-4o-mini", row["text"], max_tokens=5).text}
    except Exception:
        return {"a": "swallowed"}
"""
    asking(project, body, ASKS + "limits: {cost_usd: 0.0000001}\n")
    summary = run_here()
    assert (summary.exit_code, summary.done, summary.failed) == (3, 0, 0)


def test_a_model_without_a_price_stops_a_run_that_may_cost_only_so_much(project: Project) -> None:
    asking(
        project,
        "def own(row, wrapper):\n return {'a': wrapper.complete('my-model', row['text']).text}",
        ASKS + "limits: {cost_usd: 1}\n",
    )
    summary = run_here()
    assert summary.exit_code == 3
    assert "limits.cost_usd needs the price of 'my-model'" in (summary.message or "")
    assert project.asked() == []


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("wrapper.complete(messages='Hi', max_tokns=3)", "did you mean 'max_tokens'?"),
        ("wrapper.complete()", "no messages are given"),
    ],
)
def test_a_question_that_cannot_be_sent_is_told(project: Project, call: str, told: str) -> None:
    asking(project, f"def own(row, wrapper):\n return {{'a': {call}.text}}")
    run_here()
    failed = project.output("out/labels.failed.jsonl")[0]["error"]
    assert failed["kind"] == "hook"
    assert told in failed["message"]
    assert project.asked() == []


def test_an_async_function_that_would_hold_up_all_rows_is_told_what_to_do(project: Project) -> None:
    asking(
        project, "async def own(row, wrapper):\n return {'a': wrapper.complete(messages='Hi').text}"
    )
    run_here()
    failed = project.output("out/labels.failed.jsonl")[0]["error"]
    assert "await wrapper.acompletions_with_backoff(...)" in failed["message"]


def test_a_blocking_function_may_have_a_loop_of_its_own(project: Project) -> None:
    ask = "wrapper.acompletions_with_backoff(messages='Hi')"
    asking(project, f"def own(row, wrapper):\n return {{'a': asyncio.run({ask})}}")
    assert run_here().done == 2
