from __future__ import annotations

import pickle

import pytest

from gptflow.errors import CallFailed, GptflowError, MissingExtra, RowFailed, SpecError, UsageError
from gptflow.records import Failure, FailureKind
from gptflow.spec.problems import Place, Problem

FAILURE = Failure(FailureKind.HOOK, "gone")


@pytest.mark.parametrize(
    "error",
    [
        SpecError([Problem("there is none", Place("spec.yaml", 1, 1), "make one")]),
        UsageError("no", hint="yes"),
        MissingExtra("ray", "ray"),
        RowFailed(FAILURE),
        CallFailed(FAILURE),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_worker_arrives_as_it_was(error: GptflowError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
