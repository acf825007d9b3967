"""Forecasting: how many calls the store will answer, and how many are left to pay.

The rows go through their conversations with the stored replies, up to the first that is missing.
Nothing is asked. It takes some 50 us a row, so it is given a time, and what it has seen by then
stands for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gptflow.engine.stored import stored_reply
from gptflow.errors import CallFailed, GptflowError, RowFailed
from gptflow.pipeline.conversation import converse
from gptflow.pipeline.extract.invalid import TakesLong
from gptflow.pipeline.plan import Plan
from gptflow.records import Call, Row
from gptflow.runner.desk import Archive

LONGEST_S = 2.0
CLOCK_EVERY = 64


@dataclass(frozen=True, slots=True)
class Forecast:
    """Calls of the rows that are still to do. Re-asks and retries come on top."""

    reused_calls: int
    least_calls: int
    """Calls to pay, where every `when` that hangs on a missing reply is false."""
    most_calls: int
    """The same, where each of them is true."""
    is_exact: bool = True
    """Whether all rows were looked at; otherwise the numbers are projected."""


@dataclass(slots=True)
class _Sums:
    rows: int = 0
    reused: int = 0
    least: int = 0
    most: int = 0

    def forecast(self, rows: int) -> Forecast:
        """The sums, projected to so many rows."""
        share = rows / self.rows if self.rows else 0.0
        return Forecast(
            reused_calls=round(self.reused * share),
            least_calls=round(self.least * share),
            most_calls=round(self.most * share),
            is_exact=self.rows >= rows,
        )


def forecast(
    plan: Plan,
    rows: Iterable[Row],
    pending: int,
    archive: Archive,
    clock: Callable[[], float] = time.monotonic,
) -> Forecast:
    """Looks at the pending rows, for at most LONGEST_S.

    Args:
        plan: what the rows are asked.
        rows: the pending rows.
        pending: how many there are.
        archive: the run's view of the store.
        clock: seconds.
    """
    sums, deadline_s = _Sums(), clock() + LONGEST_S
    for row in rows:
        _look(plan, row, archive, sums)
        sums.rows += 1
        if sums.rows % CLOCK_EVERY == 0 and clock() > deadline_s:
            break
    return sums.forecast(pending)


def _look(plan: Plan, row: Row, archive: Archive, sums: _Sums) -> None:
    conversation = converse(plan, row, patient=not plan.has_hooks)
    try:
        said = next(conversation)
        while isinstance(said, Call) and (body := archive.find_reply(said.key)) is not None:
            sums.reused += 1
            said = conversation.send(stored_reply(said, body))
    except (StopIteration, CallFailed, RowFailed, TakesLong):
        return
    except GptflowError:
        raise
    except Exception:  # noqa: BLE001  # the worker comes to it again, and records it as this row's
        return
    # The user's functions are not called for this: nobody knows what follows from them.
    name, is_call = (said.step, 1) if isinstance(said, Call) else (said.step.name, 0)
    asked = [step.name for step in plan.steps].index(name)
    later = [step for step in plan.steps[asked + 1 :] if step.python is None]
    sums.least += is_call + sum(step.when is None for step in later)
    sums.most += is_call + len(later)
