"""Talking a row through: its calls are asked one after the other, until it has its result.

These lines are the same in every mode. They run where the worker lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from gptflow.data.json_text import encoded
from gptflow.errors import CallFailed, GptflowError, RowFailed
from gptflow.pipeline.plan import Plan
from gptflow.records import (
    Call,
    Failure,
    FailureKind,
    Fields,
    Reply,
    Row,
    RowResult,
    RowStatus,
)
from gptflow.runner.dialogue import Dialogue

Ask = Callable[[Call, str | None], Awaitable[Reply]]
"""Gets the reply to a call, which is on disk then; the name is that of the key to prefer."""


@dataclass(slots=True)
class Asked:
    """What a row has asked so far: it is stored with the row, also where the row fails."""

    calls: list[bytes] = field(default_factory=list)
    """Call keys, in their order."""
    truncated: bool = False
    """Whether any reply was cut off."""


class Talk:
    """Takes rows to their results, any number at a time."""

    def __init__(self, plan: Plan, ask: Ask) -> None:
        self._plan = plan
        self._ask = ask

    async def converse(self, row: Row) -> RowResult:
        """What becomes of a row.

        Raises:
            GptflowError: what concerns the run, and not the row.
        """
        asked = Asked()
        try:
            fields = await self._fields(row, asked)
            return row_result(row, asked, fields=encoded(fields))
        except CallFailed as failed:
            asked.truncated |= failed.reply is not None and failed.reply.truncated
            return row_result(row, asked, failure=failed.failure)
        except RowFailed as failed:
            return row_result(row, asked, failure=failed.failure)
        except GptflowError:
            raise  # the run's business, not the row's
        except Exception as bug:  # noqa: BLE001  # one row must not end a run of a million
            failure = Failure(FailureKind.BUG, f"{type(bug).__name__}: {bug}")
            return row_result(row, asked, failure=failure)

    async def _fields(self, row: Row, asked: Asked) -> Fields:
        """Answers the calls of a row's conversation until it gives the row's fields."""
        key_name = None

        async def ask(call: Call) -> Reply:
            asked.calls.append(call.key)
            reply = await self._ask(call, key_name)
            asked.truncated |= reply.truncated
            return reply

        dialogue = Dialogue(self._plan, row, ask)
        said = await dialogue.begin()
        while isinstance(said, Call):
            reply = await ask(said)
            key_name = reply.key_name or key_name
            said = await dialogue.answer(reply)
        return said


def row_result(
    row: Row, asked: Asked, *, fields: bytes = b"{}", failure: Failure | None = None
) -> RowResult:
    """A row's result, as its fields or its failure make it."""
    if failure is not None and not failure.message.isascii():
        failure = msgspec.structs.replace(failure, message=_writable(failure.message))
    return RowResult(
        row.position,
        RowStatus.DONE if failure is None else RowStatus.FAILED,
        row.raw,
        fields,
        failure,
        calls=tuple(asked.calls),
        truncated=asked.truncated,
    )


def _writable(text: str) -> str:
    """The text with what UTF-8 cannot carry, half of a surrogate pair, written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
