from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gptflow.errors import (
    CallFailed,
    GptflowError,
    LarkError,
    MissingExtra,
    OutputError,
    PromptsFailed,
    RowFailed,
    RunStopped,
    SpecError,
    WorkerFailed,
)
from gptflow.records import Failure, FailureKind, Reply, Usage
from gptflow.spec.problems import Place, Problem

FAILURE = Failure(FailureKind.HOOK, "gone", step="label")
REPLY = Reply("no", "stop", Usage(1, 2), "gpt-4o-mini", b"{}")


def worker_failed() -> WorkerFailed:
    error = WorkerFailed("a worker died", hint="look")
    error.type_name, error.trace = "builtins.ValueError", "Traceback ..."
    return error


def prompts_failed() -> PromptsFailed:
    error = PromptsFailed("some failed", hint="again")
    error.reasons = {3: "why", 5: "as well"}
    return error


MADE_OTHERWISE: dict[type[GptflowError], Callable[[], GptflowError]] = {
    SpecError: lambda: SpecError([Problem("there is none", Place("spec.yaml", 1, 1), "make one")]),
    MissingExtra: lambda: MissingExtra("ray", "ray"),
    LarkError: lambda: LarkError("no", hint="yes", code=19001, is_final=True),
    CallFailed: lambda: CallFailed(FAILURE, REPLY),
    RowFailed: lambda: RowFailed(FAILURE),
    OutputError: lambda: OutputError.of("out.jsonl", OSError(28, "No space left on device")),
    WorkerFailed: worker_failed,
    PromptsFailed: prompts_failed,
}
"""Those that need more than a message and a hint, or can have more."""


def kinds(of: type[GptflowError] = GptflowError) -> Iterator[type[GptflowError]]:
    """Every kind that errors.py has."""
    if of.__module__ == GptflowError.__module__:
        yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_an_error_arrives_as_it_was(
    kind: type[GptflowError], travel: Callable[[Any], GptflowError]
) -> None:
    error = MADE_OTHERWISE.get(kind, lambda: kind("no", hint="yes"))()
    arrived = travel(error)
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    assert arrived.hint == error.hint
    assert vars(arrived) == vars(error)
    assert arrived.exit_code == error.exit_code


def test_an_error_with_a_note_and_words_from_afar_arrives_with_them() -> None:
    error = RunStopped("nichts geht mehr: größer als 4 GB", hint="weniger")
    error.add_note("seen on node 7")
    arrived = pickle.loads(pickle.dumps(error))
    assert arrived.__notes__ == ["seen on node 7"]
    assert str(arrived) == "nichts geht mehr: größer als 4 GB\nHint: weniger"
