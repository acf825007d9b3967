"""A step that is a function: what it is called with, and what a conversation makes of its word."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptflow.errors import RowFailed, SpecError, UsageError
from gptflow.pipeline.compile import compile_plan
from gptflow.pipeline.conversation import HookCall, converse
from gptflow.pipeline.extract.invalid import TakesLong
from gptflow.pipeline.hook_file import PythonAccess
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, FailureKind, Reply, Row, Usage
from tests.own_python import forgotten_afterwards
from tests.project import loaded

SPEC = """
name: x
source: {range: 1}
model: {name: m, temperature: 0}
steps:
  - name: one
    prompt: "Ask {{ text }}."
    extract: {n: {python: "step_of_test:number", type: int}}
  - {name: two, when: n > 0, python: "step_of_test:two", fields: [b, a]}
  - name: three
    prompt: "{{ a }}, {{ steps.two.fields.b }}, {{ steps.two.reply }}"
"""
CODE = """
def number(text, row): return text[len(row['text']):]
def two(row, wrapper): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with forgotten_afterwards(tmp_path):
        yield tmp_path


def plan(folder: Path, spec: str = SPEC, code: str = CODE) -> Plan:
    (folder / "step_of_test.py").write_text(code)
    (folder / "spec.yaml").write_text(spec)
    access = PythonAccess.of(is_allowed=True, folders=[folder])
    return compile_plan(loaded("spec.yaml"), columns=None, access=access)


def row() -> Row:
    return Row(0, 0, b"k" * 16, 0, b"{}", {"text": "it", "tags": [1]})


def saying(text: str) -> Reply:
    return Reply(text, "stop", Usage(), "m", b"")


def at_two(folder: Path) -> tuple[Any, HookCall]:
    conversation = converse(plan(folder), row())
    next(conversation)
    said = conversation.send(saying("it12"))
    assert isinstance(said, HookCall)
    return conversation, said


def test_it_is_called_with_the_columns_and_the_fields_so_far(folder: Path) -> None:
    _, said = at_two(folder)
    assert said.given == {"text": "it", "tags": [1], "n": 12}
    assert said.hook.name == "step_of_test:two"
    assert said.may_ask
    said.given["tags"].append(2)
    assert said.row.columns["tags"] == [1]


def test_later_steps_see_its_fields_and_no_turn_of_it(folder: Path) -> None:
    conversation, _ = at_two(folder)
    call = conversation.send({"a": 1, "b": [2]})
    assert isinstance(call, Call)
    assert [message["content"] for message in call.messages] == ["Ask it.", "it12", "1, [2], None"]
    with pytest.raises(StopIteration) as end:
        conversation.send(saying("."))
    assert list(end.value.value.items()) == [("n", 12), ("b", [2]), ("a", 1)]


def test_where_it_does_not_apply_its_fields_are_null(folder: Path) -> None:
    conversation = converse(plan(folder), row())
    next(conversation)
    call = conversation.send(saying("it0"))
    assert isinstance(call, Call)
    assert call.messages[-1]["content"] == "None, None, None"


def test_what_it_must_not_give_fails_the_row(folder: Path) -> None:
    conversation, _ = at_two(folder)
    with pytest.raises(RowFailed) as failed:
        conversation.send({"a": 1})
    failure = failed.value.failure
    assert (failure.kind, failure.step, failure.replies) == (FailureKind.HOOK, "two", 0)
    assert "step_of_test:two gave a dict with no b, expected b, a" in failure.message


def test_so_does_what_it_raises(folder: Path) -> None:
    conversation, said = at_two(folder)
    with pytest.raises(RowFailed, match="python of step 'two': step_of_test:two: OSError: gone"):
        conversation.throw(said.hook.fault(OSError("gone")))


def test_an_extractor_waits_for_who_has_time(folder: Path) -> None:
    conversation = converse(plan(folder), row(), patient=False)
    next(conversation)
    with pytest.raises(TakesLong):
        conversation.send(saying("it12"))


def test_a_plan_travels_with_its_functions_and_where_they_are(folder: Path) -> None:
    made = plan(folder)
    sent = pickle.dumps(made)
    sys.modules.pop("step_of_test")
    sys.path.remove(str(folder))
    arrived: Plan = pickle.loads(sent)
    assert arrived.digest == made.digest
    assert arrived.has_hooks
    assert next(converse(arrived, row())) == next(converse(made, row()))


def test_a_plan_that_finds_other_code_where_it_arrives_says_which(folder: Path) -> None:
    sent = pickle.dumps(plan(folder))
    (folder / "step_of_test.py").write_text(CODE + "#")
    with pytest.raises(UsageError, match=r"other Python code .* step_of_test:two \(.*of_test\.py"):
        pickle.loads(sent)


def test_the_plan_s_digest_hangs_on_the_code_and_the_fields(folder: Path) -> None:
    made = {
        plan(folder).digest,
        plan(folder, code=CODE + "#").digest,
        plan(folder, spec=SPEC.replace("[b, a]", "[a, b]")).digest,
        plan(folder).digest,
    }
    assert len(made) == 3


def test_models_are_those_that_are_asked(folder: Path) -> None:
    only = SPEC[: SPEC.index("  - name: one")]
    steps = '  - {name: two, python: "step_of_test:two", fields: [a]}\n'
    assert plan(folder, only + steps).models == ("m",)
    quiet = CODE.replace("two(row, wrapper)", "two(row)")
    assert plan(folder, only + steps, quiet).models == ()
    assert (
        plan(folder, (only + steps).replace("model: {name: m, temperature: 0}\n", "")).models == ()
    )


def test_without_access_nothing_compiles(folder: Path) -> None:
    plan(folder)
    with pytest.raises(SpecError) as error:
        compile_plan(loaded("spec.yaml"), columns=None)
    assert [str(problem.place) for problem in error.value.problems] == [
        "spec.yaml:8:27",
        "spec.yaml:9:38",
    ]
