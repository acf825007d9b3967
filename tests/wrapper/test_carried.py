from __future__ import annotations

import pickle

import pytest

from gptflow.errors import UsageError, WorkerFailed
from gptflow.wrapper.carried import Carried, RemoteTraceback


class SaysMoreError(Exception):
    """Read back from a pickle it says something else."""

    def __init__(self, what: str) -> None:
        super().__init__(f"it was {what}")


class NeedsMoreError(Exception):
    """Pickles, and cannot be read back: so are the openai package's own."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


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


def test_what_cannot_be_read_back_arrives_as_worker_failed_with_class_message_and_traceback() -> (
    None
):
    error = carried(NeedsMoreError("no such thing", status=400))
    assert isinstance(error, WorkerFailed)
    assert error.type_name == f"{__name__}.NeedsMoreError"
    assert error.message == f"worker 3 failed: {error.type_name}: no such thing"
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
