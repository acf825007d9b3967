from __future__ import annotations

import pickle

import openai
import pytest

from gptflow.engine.attempt import Response
from gptflow.engine.exceptions import to_openai_error
from gptflow.errors import UsageError, WorkerFailed
from gptflow.records import Failure, FailureKind
from gptflow.wrapper.carried import Carried, RemoteTraceback


class SaysMoreError(Exception):
    """Read back from a pickle it says something else."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it was {what}")


def carried(error: BaseException, worker: int = 3) -> BaseException:
    """An exception after it was raised, sent to another process and read there."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fail()
    received = pickle.loads(pickle.dumps(Carried.of(caught.value)))
    assert isinstance(received, Carried)
    return received.error(worker)


def test_an_exception_that_pickles_arrives_itself_with_its_traceback_as_cause() -> None:
    error = carried(KeyError("text"))
    assert (type(error), error.args) == (KeyError, ("text",))
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise error" in str(error.__cause__)


def test_an_error_of_ours_keeps_its_hint() -> None:
    error = carried(UsageError("no", hint="try yes"))
    assert isinstance(error, UsageError)
    assert error.hint == "try yes"


def test_an_openai_error_arrives_as_worker_failed_with_its_class_message_and_traceback() -> None:
    failure = Failure(FailureKind.REJECTED, "no such thing", status=400)
    sent = to_openai_error(failure, Response(400, {}, b"{}"), "http://127.0.0.1/v1")
    error = carried(sent)
    assert isinstance(error, WorkerFailed)
    assert error.type_name == f"{openai.__name__}.BadRequestError"
    assert error.message == f"worker 3 failed: {error.type_name}: {sent}"
    assert "raise error" in error.trace
    assert error.trace in str(error.__cause__)


@pytest.mark.parametrize("error", [SaysMoreError("bad"), OSError(lambda: None)])
def test_what_does_not_come_back_as_it_went_arrives_as_worker_failed(error: Exception) -> None:
    arrived = carried(error)
    assert isinstance(arrived, WorkerFailed)
    assert str(error) in str(arrived)
    assert type(error).__name__ in arrived.type_name


def test_a_class_of_a_function_arrives_as_worker_failed() -> None:
    class LocalError(Exception):
        pass

    arrived = carried(LocalError())
    assert isinstance(arrived, WorkerFailed)
    assert arrived.message.endswith("<locals>.LocalError")
