"""Every exception that gptflow raises, and the exit code that each one ends a command with.

    GptflowError                     something a person can mend; `hint` says how
    ├── SpecError                    the spec has problems; `problems` lists all of them      exit 2
    ├── ConfigError                  config.json or the environment is wrong                  exit 2
    ├── DataError                    the source cannot be read as what it claims to be        exit 2
    ├── UsageError                   the command line or the call does not fit                exit 2
    ├── OutputError                  the output cannot be written                             exit 2
    ├── MissingExtra                 an optional package is not installed                     exit 2
    ├── StoreError                   the store cannot be used                                 exit 2
    │   ├── StoreLocked              another process holds it                                 exit 2
    │   ├── StoreVersion             a newer gptflow wrote it                                 exit 2
    │   └── StoreCorrupt             it is not a readable store                               exit 2
    ├── LarkError                    a message did not reach Lark; no run ends of it
    ├── CallFailed                   a call has no reply, and will have none; `failure` says why
    ├── RowFailed                    a row cannot be finished; `failure` says why
    ├── WorkerFailed                 a worker of a GPTWrapper pipeline failed, or died
    ├── PromptsFailed                prompts of a single round have no answer; the rest is kept
    └── RunStopped                   the run cannot go on; what is done is stored             exit 3

A failed call or row is data (`records.Failure`): CallFailed and RowFailed only carry it from where
it happens to the one place that records it, and never end a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptflow.records import Failure, Reply
    from gptflow.spec.problems import Problem


class GptflowError(Exception):
    """Something that a person can mend. `str()` is the whole message, the hint included."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by __init__, as exceptions do: its arguments are others than `args`.
        return _bare, (type(self), self.args), self.__dict__

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message


def _bare(kind: type[GptflowError], arguments: tuple[Any, ...]) -> GptflowError:
    return kind.__new__(kind, *arguments)


class SpecError(GptflowError):
    """A spec has problems. All of them are in `problems`, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        shown = [problem.render() for problem in problems]
        super().__init__("\n\n".join([*shown, f"{count}; nothing was sent."]))
        self.problems = tuple(problems)


class ConfigError(GptflowError):
    """config.json, or the environment that stands in for it, is wrong."""


class DataError(GptflowError):
    """The source cannot be read as what it claims to be. The message names file and line."""


class UsageError(GptflowError):
    """The command line, or the call of a public function, does not fit."""


class OutputError(GptflowError):
    """The output cannot be written. What is done is stored: the same command writes it later."""

    @classmethod
    def of(cls, path: object, error: OSError) -> OutputError:
        """The error for a failed write."""
        return cls(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="make room or choose another place; the rows are in the store, and the same "
            "command writes them",
        )


class MissingExtra(GptflowError):
    """A feature needs an optional package that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs a package that is not installed",
            hint=f'pip install "gptflow[{extra}]"',
        )


class StoreError(GptflowError):
    """The store cannot be used."""


class StoreLocked(StoreError):
    """Another process holds the store."""


class StoreVersion(StoreError):
    """The store was written by a newer gptflow."""


class StoreCorrupt(StoreError):
    """The file is not a readable store."""


class LarkError(GptflowError):
    """A message did not reach Lark. Neither the hook nor the secret is in it.

    `code` is Lark's own where it gave one. `is_final`: no other message will get through either,
    until a person changes something.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: int | None = None,
        is_final: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.is_final = is_final


class CallFailed(GptflowError):
    """A call has no reply that can be used, and will have none. The reason is `failure`."""

    def __init__(self, failure: Failure, reply: Reply | None = None) -> None:
        """`reply`: what came all the same and was paid for, such as a refusal."""
        super().__init__(failure.message)
        self.failure = failure
        self.reply = reply


class RowFailed(GptflowError):
    """A row cannot be finished. The reason is `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class RunStopped(GptflowError):
    """The run cannot go on. What is done is stored, and the same command goes on from there."""

    exit_code = 3

    def again(self) -> RunStopped:
        """A copy: one exception raised many times would grow a traceback with each."""
        return RunStopped(self.message, hint=self.hint)


class WorkerFailed(GptflowError):
    """A worker of a pipeline died, or failed with an exception that cannot leave its process."""

    type_name = ""
    """The exception's class, with its module; empty for a worker that died."""
    trace = ""
    """Its traceback, as Python prints it."""


class PromptsFailed(GptflowError):
    """Prompts of a single round have no answer. The answers to the others are kept."""

    reasons: dict[int, str]
    """Why, by the prompt's place in the list."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reasons = {}
