"""What each worker of a single round does: ask, and write down each answer before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gptflow.errors import CallFailed, UsageError
from gptflow.wrapper.answer_log import AnswerLog
from gptflow.wrapper.gpt_wrapper import GPTWrapper
from gptflow.wrapper.question import question
from gptflow.wrapper.round_file import RoundFiles
from gptflow.wrapper.round_line import Item


@dataclass(frozen=True, slots=True)
class Round:
    """How the questions of a round are asked, and where the answers go."""

    fout: Path
    engine: str | None
    is_completion: bool
    """Whether the model completes a text, and has no messages."""
    params: dict[str, Any]
    """All else for completions_with_backoff."""

    def messages(self, item: Item) -> Any:
        """What is sent for an item."""
        if self.is_completion:
            if not item.system_prompt:
                return item.prompt
            return f"[System Prompt]: {item.system_prompt}\n[Prompt]: {item.prompt}"
        turns = [{"role": "user", "content": item.prompt}]
        if item.system_prompt:
            turns.insert(0, {"role": "system", "content": item.system_prompt})
        return turns


class Failed(NamedTuple):
    """An item without an answer."""

    id: int
    reason: str


def ask_each(
    worker: int, wrapper: GPTWrapper, items: Sequence[Item], round_: Round
) -> list[Failed]:
    """Asks the items one after the other; those that have no answer, and will have none.

    Raises:
        RunStopped: no call can be answered any more.
        OutputError: an answer cannot be written.
    """
    failed: list[Failed] = []
    with AnswerLog(RoundFiles(round_.fout).of_worker(worker)) as log:
        for item in items:
            try:
                asked = question(round_.engine, round_.messages(item), round_.params)
                response = wrapper.answer_to(asked)
            except CallFailed as error:
                failed.append(Failed(item.id, f"{error.failure.kind}: {error}"))
            except UsageError as error:  # what no call can have was refused before all
                failed.append(Failed(item.id, str(error)))
            else:
                log.add(item, response)
    return failed
