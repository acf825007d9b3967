"""An exception on its way from one process to another."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from typing import Any

from gptflow.errors import WorkerFailed


class RemoteTraceback(Exception):
    """Where in a worker process an exception was raised: the cause of the one raised here."""

    def __init__(self, trace: str) -> None:
        super().__init__(trace)

    def __str__(self) -> str:
        return f"in the worker:\n{self.args[0]}"


@dataclass(frozen=True, slots=True)
class Carried:
    """An exception as plain data, with the exception itself where it survives pickling.

    The openai package's own do not: they cannot be read back. Those of the engine do.
    """

    type_name: str
    message: str
    trace: str
    """The traceback as Python prints it."""
    pickled: bytes | None

    @classmethod
    def of(cls, error: BaseException) -> Carried:
        """An exception, ready to travel."""
        trace = "".join(traceback.format_exception(error)).rstrip()
        return cls(_type_name(error), str(error), trace, _pickled(error))

    def error(self, worker: int) -> BaseException:
        """The exception to raise: itself, or a WorkerFailed that tells of it."""
        error = _unpickled(self.pickled) if self.pickled is not None else None
        if error is None:
            told = f"{self.type_name}: {self.message}" if self.message else self.type_name
            error = WorkerFailed(f"worker {worker} failed: {told}")
            error.type_name, error.trace = self.type_name, self.trace
        error.__cause__ = RemoteTraceback(self.trace)
        return error


def _type_name(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _pickled(error: BaseException) -> bytes | None:
    """Only if what is read back is the same exception, and says the same."""
    try:
        pickled = pickle.dumps(error)
    except Exception:  # noqa: BLE001  # whatever a class may raise that does not pickle
        return None
    again = _unpickled(pickled)
    same = type(again) is type(error) and str(again) == str(error)
    return pickled if same else None


def _unpickled(pickled: bytes) -> Any:
    try:
        error = pickle.loads(pickled)  # noqa: S301  # from a worker that runs the user's own code
    except Exception:  # noqa: BLE001  # whatever a class may raise that does not unpickle
        return None
    return error if isinstance(error, BaseException) else None
